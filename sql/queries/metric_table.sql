-- The points of many runs as data.

-- name: one_moment
-- Let all statements of the transaction read one snapshot.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: has_marks
-- Does this database keep the range of time of each run?
SELECT to_regclass('mlops.run_ranges') IS NOT NULL;

-- name: has_extremes
-- Does this database keep extremes with the marks?
SELECT to_regclass('mlops.metric_extremes') IS NOT NULL;

-- name: runs_of
-- The active runs of some experiments or of all.
SELECT run_uuid FROM runs
WHERE lifecycle_stage = 'active'
    AND (%(experiments)s::integer[] IS NULL OR experiment_id = ANY (%(experiments)s::integer[]))
ORDER BY start_time, run_uuid;

-- name: all_experiments
-- All experiments, also deleted ones: their runs may be active.
SELECT experiment_id FROM experiments ORDER BY experiment_id;

-- name: experiments_named
-- The experiments with a name (one for each workspace), or else the one with this id.
SELECT experiment_id FROM experiments
WHERE name = %(experiment)s::text
    OR experiment_id::text = %(experiment)s::text
        AND NOT EXISTS (SELECT FROM experiments WHERE name = %(experiment)s::text)
ORDER BY experiment_id;

-- name: series
-- Every series of these runs, and the range of times of its run: runs in the order given, keys by name.
SELECT given.run_uuid, latest.key, span.first_ms, span.last_ms
FROM unnest(%(runs)s::text[]) WITH ORDINALITY AS given (run_uuid, place)
JOIN latest_metrics AS latest USING (run_uuid)
JOIN mlops.run_ranges AS span USING (run_uuid)
WHERE %(keys)s::text[] IS NULL OR latest.key = ANY (%(keys)s::text[])
ORDER BY given.place, latest.key COLLATE "C";

-- name: copy_out
-- The points of series, each by (step, time, value), with the number of its series. All columns have a
-- fixed width, so that the client reads them without a loop. LATERAL walks the key once for each
-- series, in the order of the arrays, without a sort; the range of times names the chunks.
COPY (
    SELECT series.place::integer, point.step, point."timestamp",
        CASE WHEN point.is_nan THEN 'NaN' ELSE point.value END
    FROM unnest(%(runs)s::text[], %(keys)s::text[], %(firsts)s::bigint[], %(lasts)s::bigint[])
        WITH ORDINALITY AS series (run_uuid, key, first_ms, last_ms, place)
    CROSS JOIN LATERAL (
        SELECT step, "timestamp", value, is_nan FROM metrics
        WHERE metrics.run_uuid = series.run_uuid AND metrics.key = series.key
            AND metrics."timestamp" BETWEEN series.first_ms AND series.last_ms
        ORDER BY metrics.step, metrics."timestamp", metrics.value, metrics.is_nan
    ) AS point
) TO STDOUT (FORMAT binary);

-- name: extremes
-- The least and the greatest value of each series of these runs: runs in the order given, keys by name.
SELECT extreme.run_uuid, extreme.key, extreme.min, extreme.min_step, extreme.max, extreme.max_step
FROM unnest(%(runs)s::text[]) WITH ORDINALITY AS given (run_uuid, place)
JOIN mlops.metric_extremes AS extreme USING (run_uuid)
WHERE %(keys)s::text[] IS NULL OR extreme.key = ANY (%(keys)s::text[])
ORDER BY given.place, extreme.key COLLATE "C";
