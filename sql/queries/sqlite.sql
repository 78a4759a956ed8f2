-- name: orphans
-- Which rows of a sqlite database refer to rows that are not there?
PRAGMA foreign_key_check;

-- name: delete_row
-- Remove one row.
DELETE FROM {table} WHERE rowid = ?;

-- name: begin
-- From now on all reads see one state.
BEGIN;

-- name: no_flush
-- A scratch file needs no safety.
PRAGMA synchronous = OFF;

-- name: add_run
-- A run of a file store.
INSERT INTO runs (
    run_uuid, experiment_id, name, source_type, source_name, entry_point_name, user_id, status,
    start_time, end_time, deleted_time, source_version, lifecycle_stage, artifact_uri)
VALUES (
    :run_uuid, :experiment_id, :name, :source_type, :source_name, :entry_point_name, :user_id,
    :status, :start_time, :end_time, :deleted_time, :source_version, :lifecycle_stage,
    :artifact_uri);

-- name: add_param
-- A param of a run of a file store.
INSERT INTO params (run_uuid, key, value) VALUES (?, ?, ?);

-- name: add_tag
-- A tag of a run of a file store.
INSERT INTO tags (run_uuid, key, value) VALUES (?, ?, ?);

-- name: add_point
-- A point of a run of a file store.
INSERT OR IGNORE INTO metrics (run_uuid, key, timestamp, step, value, is_nan) VALUES (?, ?, ?, ?, ?, ?);

-- name: add_latest
-- The last point of a series of a file store.
INSERT INTO latest_metrics (run_uuid, key, timestamp, step, value, is_nan) VALUES (?, ?, ?, ?, ?, ?);
