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
