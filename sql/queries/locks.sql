-- name: limit_waits
-- In this transaction, no wait for a lock is longer than this.
SELECT set_config('lock_timeout', %(wait)s, true);

-- name: limit_waits_beside_autovacuum
-- A lock that autovacuum holds is given up when the deadlock check of who waits comes: wait a little longer.
SELECT set_config(
    'lock_timeout',
    (extract(epoch FROM current_setting('deadlock_timeout')::interval) * 1000 + 300)::integer || 'ms',
    true
);

-- name: holders
-- Which other sessions hold locks on tables of this database, those with the oldest transactions first?
SELECT DISTINCT
    activity.pid,
    activity.backend_type AS backend,
    coalesce(activity.usename::text, '') AS role,
    coalesce(activity.application_name, '') AS application,
    coalesce(activity.state, '') AS state,
    coalesce(
        extract(epoch FROM clock_timestamp() - activity.xact_start), 0
    )::double precision AS seconds
FROM pg_locks AS lock
JOIN pg_stat_activity AS activity ON activity.pid = lock.pid
WHERE lock.locktype = 'relation'
    AND lock.granted
    AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND lock.relation >= 16384
    AND lock.pid <> pg_backend_pid()
ORDER BY seconds DESC
LIMIT 20;
