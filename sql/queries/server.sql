-- name: database_exists
-- Is there a database of this name?
SELECT 1 FROM pg_database WHERE datname = %(name)s;

-- name: create_database
-- Create an empty database.
CREATE DATABASE {name};

-- name: use_utc
-- Timestamps come back in UTC whatever the server's or the client's zone is.
SET TIME ZONE 'UTC';

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
