-- name: server
-- Which server is this, and how is it configured? The zone is the one that the database or role sets for
-- new sessions: our own sessions start in UTC and cannot see the server's default.
SELECT
    current_setting('server_version') AS version,
    current_setting('server_version_num')::integer AS number,
    coalesce(
        (
            SELECT split_part(setting, '=', 2)
            FROM pg_db_role_setting, unnest(setconfig) AS setting
            WHERE setdatabase IN (0, pg_database.oid)
                AND setrole IN (0, to_regrole(quote_ident(current_user))::oid)
                AND lower(split_part(setting, '=', 1)) = 'timezone'
            ORDER BY setdatabase DESC, setrole DESC
            LIMIT 1
        ),
        current_setting('TimeZone')
    ) AS timezone,
    pg_encoding_to_char(encoding) AS encoding,
    pg_database_size(oid) AS bytes
FROM pg_database WHERE datname = current_database();

-- name: clock
-- What time is it on the server?
SELECT clock_timestamp();

-- name: extension
-- Which TimescaleDB is installed here, which one could be, and is its library loaded?
SELECT installed_version, default_version,
    current_setting('timescaledb.disable_load', true) IS NOT NULL AS loaded
FROM pg_available_extensions WHERE name = 'timescaledb';

-- name: alembic_version
-- At which revision are MLflow's tables? (No row, or no such table: they were never created.)
SELECT version_num FROM alembic_version;

-- name: alembic_exists
-- Has MLflow's alembic ever been here?
SELECT to_regclass('alembic_version') IS NOT NULL;

-- name: mlflow_schema
-- In which schema do MLflow's tables live?
SELECT relnamespace::regnamespace::text FROM pg_class
WHERE oid = coalesce(to_regclass('runs'), to_regclass('experiments'));

-- name: indexes
-- Which columns, in which order, does each usable index of these tables have?
SELECT t.relname AS table_name, i.relname AS index_name,
    array_agg(a.attname::text ORDER BY k.position) FILTER (WHERE a.attname IS NOT NULL) AS columns,
    x.indisunique AS is_unique, x.indisvalid AS is_valid
FROM pg_index AS x
JOIN pg_class AS i ON i.oid = x.indexrelid
JOIN pg_class AS t ON t.oid = x.indrelid
CROSS JOIN LATERAL unnest(x.indkey::smallint[]) WITH ORDINALITY AS k (attnum, position)
LEFT JOIN pg_attribute AS a ON a.attrelid = x.indrelid AND a.attnum = k.attnum AND k.attnum > 0
WHERE t.relnamespace = to_regnamespace(%(schema)s) AND t.relname = ANY(%(tables)s)
    AND k.position <= x.indnkeyatts
GROUP BY t.relname, i.relname, x.indisunique, x.indisvalid;

-- name: tables
-- Which tables does this schema have?
SELECT relname::text FROM pg_class
WHERE relnamespace = to_regnamespace(%(schema)s) AND relkind IN ('r', 'p');

-- name: largest
-- Which tables of these schemas are the largest, with their chunks, indexes and estimated rows?
WITH RECURSIVE tree AS (
    SELECT oid AS root, oid FROM pg_class
    WHERE relkind IN ('r', 'p') AND relnamespace = ANY(%(schemas)s::regnamespace[])
        AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = pg_class.oid)
    UNION ALL
    SELECT tree.root, h.inhrelid FROM tree JOIN pg_inherits AS h ON h.inhparent = tree.oid
)
SELECT tree.root::regclass::text AS name, sum(pg_total_relation_size(c.oid))::bigint AS bytes,
    sum(greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0))::bigint AS rows
FROM tree JOIN pg_class AS c ON c.oid = tree.oid
GROUP BY tree.root
ORDER BY bytes DESC
LIMIT 5;

-- name: hypertables
-- The same for hypertables, whose compressed chunks do not inherit from them.
SELECT format('%%I.%%I', hypertable_schema, hypertable_name)::regclass::text AS name,
    hypertable_size(format('%%I.%%I', hypertable_schema, hypertable_name)::regclass) AS bytes,
    approximate_row_count(format('%%I.%%I', hypertable_schema, hypertable_name)::regclass) AS rows,
    num_chunks AS chunks
FROM timescaledb_information.hypertables
WHERE hypertable_schema = ANY(%(schemas)s);

-- name: connections
-- How many connections does the server let in, how many keeps it for others, how many are open?
SELECT current_setting('max_connections')::integer AS max_connections,
    current_setting('superuser_reserved_connections')::integer
        + coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::integer
        AS reserved,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS open;

-- name: connection_limits
-- Who limits the number of connections, and how many of them are open? A limit of -1 is none.
WITH backends AS (
    SELECT datname, usename FROM pg_stat_activity WHERE usename IS NOT NULL AND backend_type IS DISTINCT FROM 'walsender'
)
SELECT
    'the server' AS scope, 'max_connections' AS setting,
    current_setting('max_connections')::integer
        - current_setting('superuser_reserved_connections')::integer
        - coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::integer AS allowed,
    (SELECT count(*) FROM backends) AS open
UNION ALL
SELECT
    format('database %I', datname), format('the limit: ALTER DATABASE %I CONNECTION LIMIT', datname),
    datconnlimit, (SELECT count(*) FROM backends WHERE backends.datname = pg_database.datname)
FROM pg_database WHERE datname = current_database() AND datconnlimit >= 0
UNION ALL
SELECT
    format('role %I', rolname), format('the limit: ALTER ROLE %I CONNECTION LIMIT', rolname),
    rolconnlimit, (SELECT count(*) FROM backends WHERE usename = rolname)
FROM pg_roles WHERE rolname = current_user AND rolconnlimit >= 0 AND NOT rolsuper;

-- name: users
-- Which applications have the most connections?
SELECT coalesce(nullif(application_name, ''), 'without a name') AS name, count(*) AS open
FROM pg_stat_activity WHERE usename IS NOT NULL
GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 3;

-- name: waits
-- Which sessions of this database wait for a lock, for how long, and who has it? The longest wait first.
SELECT
    pid,
    coalesce(nullif(application_name, ''), backend_type, '') AS name,
    coalesce(extract(epoch FROM clock_timestamp() - min(waitstart)), 0)::double precision AS seconds,
    pg_blocking_pids(pid) AS holders
FROM pg_locks AS lock
JOIN pg_stat_activity AS activity USING (pid)
WHERE NOT lock.granted AND datname = current_database() AND pid <> pg_backend_pid()
GROUP BY 1, 2
HAVING coalesce(extract(epoch FROM clock_timestamp() - min(waitstart)), 0) > 1
ORDER BY seconds DESC;

-- name: sessions
-- Who are these processes, and what ends each?
SELECT
    format(
        'process %%s (%%s, role %%s, %%s)',
        pid, coalesce(nullif(application_name, ''), backend_type, '-'), coalesce(usename, '-'),
        coalesce(state, 'active')
    ) AS name,
    format('SELECT pg_terminate_backend(%%s);', pid) AS remedy
FROM pg_stat_activity WHERE pid = ANY(%(pids)s);

-- name: long_transactions
-- Which transactions are older than this, of sessions and prepared ones, in this database? Oldest first.
SELECT
    format(
        'process %%s (%%s, role %%s, %%s)',
        pid, coalesce(nullif(application_name, ''), '-'), usename, coalesce(state, 'active')
    ) AS name,
    extract(epoch FROM clock_timestamp() - xact_start)::double precision AS seconds,
    format('SELECT pg_terminate_backend(%%s);', pid) AS remedy
FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
    AND extract(epoch FROM clock_timestamp() - xact_start) > %(seconds)s
UNION ALL
SELECT
    format('prepared transaction %%L', gid),
    extract(epoch FROM clock_timestamp() - prepared)::double precision,
    format('ROLLBACK PREPARED %%L;', gid)
FROM pg_prepared_xacts
WHERE database = current_database()
    AND extract(epoch FROM clock_timestamp() - prepared) > %(seconds)s
ORDER BY seconds DESC;

-- name: replication
-- How far is each standby behind, and this server if it is one? What do slots without a client keep?
SELECT
    format('standby %s', coalesce(nullif(application_name, ''), client_addr::text, pid::text)) AS name,
    pg_wal_lsn_diff(
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END,
        replay_lsn
    )::bigint AS bytes,
    extract(epoch FROM replay_lag)::double precision AS seconds,
    false AS lost,
    'Look at the standby and its network: reads there are old, and a failover loses this much.' AS advice
FROM pg_stat_replication
WHERE state IS DISTINCT FROM 'backup'
UNION ALL
SELECT
    'this server, a standby',
    pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::bigint,
    CASE
        WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
        ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())
    END::double precision,
    false,
    'Reads here are old: look for long queries here, and at the load of the disk.'
WHERE pg_is_in_recovery()
UNION ALL
SELECT
    format('replication slot %I without a client', slot_name),
    pg_wal_lsn_diff(
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END,
        restart_lsn
    )::bigint,
    NULL, coalesce(wal_status = 'lost', false),
    format('The server keeps its log for it: SELECT pg_drop_replication_slot(%L);', slot_name)
FROM pg_replication_slots
WHERE NOT active AND NOT temporary;

-- name: chunks
-- How many chunks does each hypertable have, and how many tables and indexes are these?
SELECT
    format('%%I.%%I', hypertable_schema, hypertable_name)::regclass::text AS name,
    num_chunks AS chunks,
    num_chunks * (1 + (
        SELECT count(*) FROM pg_index
        WHERE indrelid = format('%%I.%%I', hypertable_schema, hypertable_name)::regclass
    )) AS relations
FROM timescaledb_information.hypertables
WHERE hypertable_schema = ANY(%(schemas)s)
ORDER BY num_chunks DESC;

-- name: lock_slots
-- For how many sessions and prepared transactions does the server reserve room in the table of locks?
SELECT current_setting('max_connections')::integer + current_setting('max_prepared_transactions')::integer;

-- name: lock_capacity
-- How many locks can be held at once?
SELECT current_setting('max_locks_per_transaction')::integer
    * (current_setting('max_connections')::integer + current_setting('max_prepared_transactions')::integer);

-- name: has_deliveries
-- Has this database the outbox of drift alerts?
SELECT to_regclass('mlops.drift_deliveries') IS NOT NULL;

-- name: failed_deliveries
-- Which targets have not taken messages on alerts of the last 30 days, after an attempt or a day?
SELECT target, count(*) AS messages, min(queued_at) AS oldest,
    coalesce((array_agg(nullif(last_error, '') ORDER BY queued_at DESC))[1], 'no process sends to it')
        AS last_error
FROM mlops.drift_deliveries
WHERE delivered_at IS NULL AND queued_at > clock_timestamp() - interval '30 days'
    AND (attempts > 0 OR queued_at < clock_timestamp() - interval '1 day')
GROUP BY target
ORDER BY target;
