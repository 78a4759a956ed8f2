-- name: database_exists
-- Is there a database of this name?
SELECT 1 FROM pg_database WHERE datname = %(name)s;

-- name: create_database
-- Create an empty database.
CREATE DATABASE {name};

-- name: session
-- Which server process answers, and which settings have another value than the client needs?
SELECT
    pg_backend_pid(),
    array_agg(s.name) FILTER (WHERE current_setting(s.name) <> s.value),
    array_agg(current_setting(s.name)) FILTER (WHERE current_setting(s.name) <> s.value)
FROM unnest(%(names)s::text[], %(values)s::text[]) AS s (name, value);

-- name: set_session
-- Give settings the values that the client needs, for as long as the session lives.
SELECT count(set_config(s.name, s.value, false))
FROM unnest(%(names)s::text[], %(values)s::text[]) AS s (name, value);

-- name: export_snapshot
-- Let other connections see what this transaction sees.
SELECT pg_export_snapshot();

-- name: join_snapshot
-- See what another transaction sees.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SET TRANSACTION SNAPSHOT %(snapshot)s;

-- name: facts
-- What does this database have that a migration may require?
-- MLflow's tables count when they are those of the oldest MLflow that we run on, 3.17, whose last
-- revision made job_locks: an older schema is upgraded by MLflow first.
SELECT
    to_regclass('metrics') IS NOT NULL AND to_regclass('job_locks') IS NOT NULL AS mlflow,
    EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') AS timescale,
    EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
        AND current_setting('timescaledb.license', true) = 'timescale' AS community;

-- name: extension_offered
-- Could the extension be created here: installed on the server, loaded, and not created yet?
SELECT FROM pg_available_extensions
WHERE name = 'timescaledb'
    AND installed_version IS NULL
    AND current_setting('timescaledb.disable_load', true) IS NOT NULL;

-- name: create_extension
-- Turn this database into a TimescaleDB.
CREATE EXTENSION IF NOT EXISTS timescaledb;
