-- name: is_ready
-- Does this database keep the range of time of each run?
SELECT to_regclass('mlops.run_ranges') IS NOT NULL;

-- name: candidates
-- Runs with points that were last written before a time, or that have points of before a time, in the
-- order of their ids: when they were last written, and why they are needed, if they are. The registry needs
-- the runs of its versions and of their models; the drift monitor those of its series and sessions, which
-- alerts and accepted references point to.
WITH needed AS (
    SELECT run_id, 'a registered version' AS reason
    FROM model_versions WHERE current_stage IS DISTINCT FROM 'Deleted_Internal'
    UNION ALL
    SELECT substring(source FROM '^runs:/+([^/]+)'), 'a registered version'
    FROM model_versions WHERE current_stage IS DISTINCT FROM 'Deleted_Internal'
    UNION ALL
    SELECT logged_models.source_run_id, 'a registered version'
    FROM logged_models
    JOIN model_versions ON substring(source FROM '^models:/(m-[^/]+)$') = model_id
    WHERE current_stage IS DISTINCT FROM 'Deleted_Internal'
    UNION ALL
    SELECT run_uuid, 'the drift monitor' FROM tags WHERE key IN ('drift.role', 'drift.strategy')
    UNION ALL
    SELECT mlflow_run_id, 'the drift monitor' FROM mlops.drift_runs
),
written AS (
    SELECT
        run_uuid, first_ms, last_ms,
        greatest(
            runs.start_time, runs.end_time, runs.deleted_time,
            coalesce(
                -- The end of the day.
                extract(epoch FROM range.written_on + 1)::bigint * 1000,
                range.last_ms
            )
        ) AS written_ms
    FROM mlops.run_ranges AS range
    JOIN runs USING (run_uuid)
)
SELECT
    run_uuid::text AS run_id, written_ms,
    (SELECT min(reason) FROM needed WHERE needed.run_id = written.run_uuid) AS needed_by
FROM written
WHERE CASE
    WHEN %(by_point_time)s THEN first_ms < %(before_ms)s
    ELSE written_ms < %(before_ms)s
END
ORDER BY run_uuid;

-- name: measure
-- How many points of these runs would go, and from when until when are they?
SELECT
    count(DISTINCT run_uuid) AS runs, count(*) AS points,
    min("timestamp") AS first_ms, max("timestamp") AS last_ms
FROM metrics
WHERE run_uuid = ANY(%(run_ids)s)
    AND (NOT %(by_point_time)s OR "timestamp" < %(before_ms)s);

-- name: lock_runs
-- Lock these runs until the transaction ends. Which of them have not been written to since?
SELECT run_uuid FROM mlops.run_ranges
WHERE run_uuid = ANY(%(run_ids)s)
    AND (
        %(by_point_time)s
        OR written_on IS NULL
        OR extract(epoch FROM written_on + 1)::bigint * 1000 < %(before_ms)s
    )
ORDER BY run_uuid
FOR UPDATE;

-- name: delete_points
-- Remove the points of some runs.
DELETE FROM metrics
WHERE run_uuid = ANY(%(run_ids)s)
    AND (NOT %(by_point_time)s OR "timestamp" < %(before_ms)s);

-- name: mark_runs
-- What is left of the runs has other ranks now.
SELECT mlops.mark_run(run_id) FROM unnest(%(run_ids)s::text[]) AS run_id;

-- name: old_chunks
-- Which chunks lie before a time?
SELECT format('%%I.%%I', chunk_schema, chunk_name) AS name, range_start_integer AS start, range_end_integer AS "end"
FROM timescaledb_information.chunks
WHERE format('%%I.%%I', hypertable_schema, hypertable_name)::regclass = 'metrics'::regclass
    AND range_end_integer <= %(before_ms)s
ORDER BY range_start_integer;

-- name: lock_chunk
-- Keep readers and writers away from a chunk while it is checked and dropped.
LOCK TABLE {chunk} IN ACCESS EXCLUSIVE MODE;

-- name: is_empty
-- Has this chunk no point?
SELECT NOT EXISTS (SELECT FROM {chunk});

-- name: drop_chunk
-- Give the space of an empty chunk back.
SELECT drop_chunks('metrics', newer_than => %(start)s::bigint, older_than => %(end)s::bigint);
