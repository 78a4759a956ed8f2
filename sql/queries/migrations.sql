-- name: lock
-- Wait until no other process migrates this database.
SELECT pg_advisory_lock(hashtextextended('mlflow-timescale migrations', 0));

-- name: unlock
-- Let the next process migrate.
SELECT pg_advisory_unlock(hashtextextended('mlflow-timescale migrations', 0));

-- name: ledger_exists
-- Has any migration ever been applied here?
SELECT to_regclass('mlops.migrations') IS NOT NULL;

-- name: create_ledger
-- The schema of our own, and the list of what has been applied to it.
CREATE SCHEMA IF NOT EXISTS mlops;
CREATE TABLE IF NOT EXISTS mlops.migrations (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_by text NOT NULL DEFAULT session_user
);

-- name: applied
-- Which migrations were applied, with which content?
SELECT name, sha256 FROM mlops.migrations;

-- name: record
-- Remember that a migration was applied.
INSERT INTO mlops.migrations (name, sha256) VALUES (%(name)s, %(sha256)s);

-- name: metrics_are_few
-- Is MLflow's metrics table small enough to be laid out anew without anybody noticing?
SELECT count(*) < 10000 FROM (SELECT FROM metrics LIMIT 10000) AS sample;
