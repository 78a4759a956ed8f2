-- name: lock
-- Wait until no other process migrates this database.
SELECT pg_advisory_lock(hashtextextended('mlflow-timescale migrations', 0));

-- name: unlock
-- Let the next process migrate.
SELECT pg_advisory_unlock(hashtextextended('mlflow-timescale migrations', 0));

-- name: ledger_exists
-- Has any migration been applied to this database?
SELECT to_regclass('mlops.migrations') IS NOT NULL;

-- name: create_ledger
-- Create our schema and the tables that describe it.
CREATE SCHEMA IF NOT EXISTS mlops;
CREATE TABLE IF NOT EXISTS mlops.migrations (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_by text NOT NULL DEFAULT session_user
);
CREATE TABLE IF NOT EXISTS mlops.definitions (
    name text PRIMARY KEY,
    area text NOT NULL,
    sha256 text NOT NULL,
    -- What the file made, as DROP takes it: "FUNCTION mlops.rise(bigint, bigint)".
    objects text[] NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_by text NOT NULL DEFAULT session_user
);
CREATE TABLE IF NOT EXISTS mlops.schema_state (
    is_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_only_row),
    revision integer NOT NULL,
    oldest_client integer NOT NULL,
    released boolean NOT NULL DEFAULT false,
    migrated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    migrated_by text NOT NULL DEFAULT session_user
);

-- name: open_to_owner
-- The owner of MLflow's metrics finds our functions where another role migrates: TimescaleDB makes the
-- triggers of a hypertable as its owner.
DO $$
DECLARE
    owner name := (
        SELECT rolname FROM pg_class JOIN pg_roles ON pg_roles.oid = relowner
        WHERE pg_class.oid = to_regclass('metrics') AND rolname <> current_user
    );
BEGIN
    IF owner IS NOT NULL AND NOT has_schema_privilege(owner, 'mlops', 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA mlops TO %I', owner);
    END IF;
END
$$;

-- name: state_exists
-- Does the database record the state of its schema?
SELECT to_regclass('mlops.schema_state') IS NOT NULL;

-- name: read_state
-- Which revision does the schema have, and which clients work with it?
SELECT revision, oldest_client, released FROM mlops.schema_state;

-- name: write_state
-- Record the revision of the schema; the oldest client never becomes older.
INSERT INTO mlops.schema_state AS state (revision, oldest_client)
VALUES (%(revision)s, %(oldest_client)s)
ON CONFLICT (is_only_row) DO UPDATE SET
    revision = excluded.revision,
    oldest_client = greatest(state.oldest_client, excluded.oldest_client),
    released = false,
    migrated_at = excluded.migrated_at,
    migrated_by = excluded.migrated_by
WHERE state.released
    OR (state.revision, state.oldest_client)
        IS DISTINCT FROM (excluded.revision, greatest(state.oldest_client, excluded.oldest_client));

-- name: mark_released
-- Record that the database was given back to plain MLflow.
UPDATE mlops.schema_state SET released = true;

-- name: applied
-- Which migrations were applied, with which content?
SELECT name, sha256 FROM mlops.migrations;

-- name: record
-- Remember that a migration was applied.
INSERT INTO mlops.migrations (name, sha256) VALUES (%(name)s, %(sha256)s);

-- name: forget
-- These migrations are undone or replaced.
DELETE FROM mlops.migrations WHERE name = ANY(%(names)s);

-- name: defined
-- Which definitions were applied, with which content?
SELECT name, sha256 FROM mlops.definitions;

-- name: record_definition
-- Remember a definition and the objects that it made.
INSERT INTO mlops.definitions (name, area, sha256, objects)
VALUES (%(name)s, %(area)s, %(sha256)s, %(objects)s)
ON CONFLICT (name) DO UPDATE SET
    sha256 = excluded.sha256,
    objects = excluded.objects,
    applied_at = excluded.applied_at,
    applied_by = excluded.applied_by;

-- name: objects_of_area
-- What did the definitions of an area make? Triggers first: functions cannot go before them.
SELECT object
FROM mlops.definitions, unnest(objects) AS object
WHERE area = %(area)s
ORDER BY array_position(ARRAY['TRIGGER', 'VIEW', 'FUNCTION'], split_part(object, ' ', 1)), object;

-- name: forget_definitions
-- The definitions of an area are gone.
DELETE FROM mlops.definitions WHERE area = %(area)s;

-- name: late_bodies
-- Function bodies are bound when they run, so that definitions need no order among themselves.
SET LOCAL check_function_bodies = off;

-- name: touched
-- Which functions, views and triggers has this transaction created or replaced? (TimescaleDB copies
-- triggers of a hypertable to its chunks; they follow their table.)
SELECT format('FUNCTION mlops.%I(%s)', proname, pg_get_function_identity_arguments(oid))
FROM pg_proc
WHERE pronamespace = to_regnamespace('mlops') AND xmin = pg_current_xact_id()::xid
UNION ALL
SELECT format('VIEW mlops.%I', relname)
FROM pg_rewrite
JOIN pg_class ON pg_class.oid = ev_class
WHERE relnamespace = to_regnamespace('mlops') AND relkind = 'v'
    AND pg_rewrite.xmin = pg_current_xact_id()::xid
UNION ALL
SELECT format('TRIGGER %I ON %I.%I', tgname, nspname, relname)
FROM pg_trigger
JOIN pg_class ON pg_class.oid = tgrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE NOT tgisinternal AND nspname <> '_timescaledb_internal'
    AND pg_trigger.xmin = pg_current_xact_id()::xid;

-- name: mlflow_schema
-- In which schema are MLflow's tables, quoted for SQL? They are found by the search path.
SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass('runs');

-- name: metrics_are_few
-- Is MLflow's metrics table small enough to change its layout without a noticeable pause?
SELECT count(*) < 10000 FROM (SELECT FROM metrics LIMIT 10000) AS sample;
