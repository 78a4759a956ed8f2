-- name: layout
-- Is `metrics` in our layout already, where is it, how large, and may it hold this many points?
SELECT
    EXISTS (
        SELECT FROM pg_constraint
        WHERE conrelid = 'metrics'::regclass
            AND conname = 'metric_pk'
            AND pg_get_constraintdef(oid) LIKE 'PRIMARY KEY (run_uuid,%%'
    ) AS ours,
    (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'metrics'::regclass)
        AS schema,
    pg_total_relation_size('metrics') + coalesce((
        SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits
        WHERE inhparent = 'metrics'::regclass
    ), 0)::bigint AS bytes,
    greatest((SELECT reltuples FROM pg_class WHERE oid = 'metrics'::regclass), 0)::bigint
        + coalesce((
            SELECT sum(greatest(reltuples, 0)) FROM pg_class JOIN pg_inherits ON inhrelid = oid
            WHERE inhparent = 'metrics'::regclass
        ), 0)::bigint AS points,
    (SELECT count(*) FROM runs) AS runs;

-- name: create_tables
-- The table that will take the place of `metrics`, and the list of the runs copied to it.
CREATE TABLE IF NOT EXISTS mlops.metrics_next (
    LIKE metrics INCLUDING DEFAULTS INCLUDING CONSTRAINTS
);
CREATE TABLE IF NOT EXISTS mlops.metrics_copied (
    run_uuid text PRIMARY KEY,
    points bigint NOT NULL,
    checksum numeric NOT NULL
);

-- name: use_our_layout
-- The key of tracking/002_metrics_layout, and the foreign key while rows are copied.
ALTER TABLE mlops.metrics_next ADD CONSTRAINT metric_pk
    PRIMARY KEY (run_uuid, key, step, "timestamp", value, is_nan);
ALTER TABLE mlops.metrics_next ADD CONSTRAINT metrics_run_uuid_fkey
    FOREIGN KEY (run_uuid) REFERENCES runs;

-- name: make_hypertable
-- The chunks of tracking/003_metrics_hypertable.
SELECT create_hypertable(
    'mlops.metrics_next', by_range('timestamp', 2592000000), create_default_indexes => false
);

-- name: use_mlflow_layout
-- Key and indexes as MLflow's own migrations make them.
ALTER TABLE mlops.metrics_next ADD CONSTRAINT metric_pk
    PRIMARY KEY (key, "timestamp", step, run_uuid, value, is_nan);
ALTER TABLE mlops.metrics_next ADD CONSTRAINT metrics_run_uuid_fkey
    FOREIGN KEY (run_uuid) REFERENCES runs;
CREATE INDEX index_metrics_run_uuid ON mlops.metrics_next (run_uuid);
CREATE INDEX index_metrics_run_uuid_key_step ON mlops.metrics_next (run_uuid, key, step);

-- name: next_has_key
-- Was the table that will take the place of `metrics` finished?
SELECT EXISTS (
    SELECT FROM pg_constraint
    WHERE conrelid = 'mlops.metrics_next'::regclass AND conname = 'metrics_run_uuid_fkey'
);

-- name: write_to_both
-- From now on what is written to `metrics` is written to the next table, too.
CREATE OR REPLACE FUNCTION mlops.copy_to_next() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO mlops.metrics_next (key, value, "timestamp", run_uuid, step, is_nan)
    SELECT key, value, "timestamp", run_uuid, step, is_nan FROM changed
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE OR REPLACE FUNCTION mlops.delete_from_next() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM mlops.metrics_next
    WHERE (run_uuid, key, step, "timestamp", value, is_nan)
        = (OLD.run_uuid, OLD.key, OLD.step, OLD."timestamp", OLD.value, OLD.is_nan);
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER mlops_copy_to_next AFTER INSERT ON metrics
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION mlops.copy_to_next();
CREATE OR REPLACE TRIGGER mlops_delete_from_next AFTER DELETE ON metrics
    -- A hypertable knows no DELETE triggers with transition tables.
    FOR EACH ROW EXECUTE FUNCTION mlops.delete_from_next();

-- name: runs_to_copy
-- Which runs come next?
SELECT run_uuid FROM runs
WHERE NOT EXISTS (SELECT FROM mlops.metrics_copied WHERE metrics_copied.run_uuid = runs.run_uuid)
ORDER BY run_uuid
LIMIT %(limit)s;

-- name: copy_runs
-- Copy the points of some runs, in the order of the new key.
INSERT INTO mlops.metrics_next (key, value, "timestamp", run_uuid, step, is_nan)
SELECT key, value, "timestamp", run_uuid, step, is_nan
FROM metrics
WHERE run_uuid = ANY(%(run_ids)s)
ORDER BY run_uuid, key, step
ON CONFLICT DO NOTHING;

-- name: summarise_runs
-- How many points does each run have in a table, and what is the sum of their hashes?
SELECT
    run_uuid::text, count(*),
    sum(hash_record_extended(ROW(key::text, value, "timestamp", step, is_nan), 0))
FROM {table}
WHERE run_uuid = ANY(%(run_ids)s)
GROUP BY run_uuid;

-- name: remember_runs
-- These runs are copied and compared.
INSERT INTO mlops.metrics_copied (run_uuid, points, checksum)
SELECT * FROM unnest(%(run_ids)s::text[], %(points)s::bigint[], %(checksums)s::numeric[])
ON CONFLICT (run_uuid) DO NOTHING;

-- name: is_under_way
-- Did a rebuild begin that has not ended?
SELECT to_regclass('mlops.metrics_copied') IS NOT NULL;

-- name: copied
-- How many runs are copied?
SELECT count(*) FROM mlops.metrics_copied;

-- name: lock_tables
-- No session writes while the tables are swapped.
LOCK TABLE metrics, mlops.metrics_next IN ACCESS EXCLUSIVE MODE;

-- name: swap
-- The next table becomes `metrics`.
DROP TRIGGER mlops_copy_to_next ON metrics;
DROP TRIGGER mlops_delete_from_next ON metrics;
DROP TABLE metrics;
ALTER TABLE mlops.metrics_next SET SCHEMA {schema};
ALTER TABLE {schema}.metrics_next RENAME TO metrics;
DROP TABLE mlops.metrics_copied;
DROP FUNCTION mlops.copy_to_next();
DROP FUNCTION mlops.delete_from_next();

-- name: drop_tracking
-- Remove the tables and indexes that the migrations of tracking added; the definitions are gone.
DROP TABLE IF EXISTS mlops.metric_marks;
DROP TABLE IF EXISTS mlops.run_ranges;
DROP INDEX IF EXISTS {schema}.mlops_runs_by_start;
DROP INDEX IF EXISTS {schema}.mlops_version_tags;

-- name: analyze
-- New tables have no statistics.
ANALYZE metrics;

-- name: one_snapshot
-- All statements of this transaction see one state of the database.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
