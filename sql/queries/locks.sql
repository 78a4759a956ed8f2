-- name: limit_waits
-- In this transaction, no wait for a lock is longer than this.
SELECT set_config('lock_timeout', %(wait)s, true);

-- name: limit_transaction
-- In this transaction, no wait for a lock and no statement is longer than this.
SELECT
    set_config('lock_timeout', %(lock_timeout)s, true),
    set_config('statement_timeout', %(statement_timeout)s, true);

-- name: limits
-- Which time limits does this session have? (transaction_timeout came with PostgreSQL 17.)
SELECT name, current_setting(name) FROM pg_settings
WHERE name IN (
    'lock_timeout', 'statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout'
);

-- name: set_limits
-- Give this session other time limits.
SELECT set_config(s.name, s.value, false) FROM unnest(%(names)s::text[], %(values)s::text[]) AS s (name, value);

-- name: wait_for_autovacuum
-- In this transaction, wait for a lock until the deadlock check, which ends an autovacuum that holds it.
SELECT set_config(
    'lock_timeout',
    (extract(epoch FROM current_setting('deadlock_timeout')::interval) * 1000 + 300)::integer || 'ms',
    true
);

-- name: keep_autovacuum_away
-- The mode of autovacuum itself: readers and writers are not held up by those who wait for it.
LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE;

-- name: vacuumed
-- On which tables does autovacuum work, of those that this role may lock?
SELECT DISTINCT format('%I.%I', nspname, relname)
FROM pg_locks AS lock
JOIN pg_stat_activity AS activity ON activity.pid = lock.pid
JOIN pg_class ON pg_class.oid = lock.relation
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE backend_type = 'autovacuum worker'
    AND lock.granted
    AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND relkind = 'r'
    AND nspname NOT IN ('pg_catalog', 'pg_toast')
    AND has_table_privilege(pg_class.oid, 'UPDATE, DELETE, TRUNCATE')
ORDER BY 1;

-- name: holders
-- Which other sessions hold locks on tables of this database? First those that keep readers out or wait
-- to, then those with the oldest transactions.
SELECT
    activity.pid,
    coalesce(max(activity.backend_type), '') AS backend,
    coalesce(max(activity.usename::text), '') AS role,
    coalesce(max(activity.application_name), '') AS application,
    coalesce(max(activity.state), '') AS state,
    coalesce(
        extract(epoch FROM clock_timestamp() - max(activity.xact_start)), 0
    )::double precision AS seconds,
    array_to_string(
        (array_agg(
            DISTINCT lock.relation::regclass::text || CASE WHEN lock.granted THEN '' ELSE ' (waits)' END
        ))[1:3], ', '
    ) AS tables,
    format('SELECT pg_terminate_backend(%s);', activity.pid) AS remedy
FROM pg_locks AS lock
JOIN pg_stat_activity AS activity ON activity.pid = lock.pid
JOIN pg_class ON pg_class.oid = lock.relation
WHERE lock.locktype = 'relation'
    AND (lock.granted OR lock.mode = 'AccessExclusiveLock')
    AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND lock.relation >= 16384
    AND relkind IN ('r', 'p', 'm', 'v')
    AND lock.pid <> pg_backend_pid()
GROUP BY activity.pid
ORDER BY bool_or(lock.mode = 'AccessExclusiveLock' AND lock.granted) DESC, seconds DESC
LIMIT 20;

-- name: holder_of_turn
-- Which session changes the schema of this database at the moment?
SELECT activity.pid, coalesce(application_name, '')
FROM pg_locks AS lock
JOIN pg_stat_activity AS activity ON activity.pid = lock.pid
WHERE lock.locktype = 'advisory'
    AND lock.granted
    AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (lock.classid::bigint << 32) | lock.objid::bigint
        = hashtextextended('mlflow-timescale migrations', 0);
