-- name: open_run
-- May this run (of this workspace) be written to?
SELECT mlops.open_run(%(run_id)b, %(workspace)b);

-- name: log_metrics
-- Add the points of one run that are not there yet, and move its latest metrics on.
SELECT mlops.log_metrics(
    %(run_id)b, %(workspace)b, %(keys)b::text[], %(values)b::float8[], %(timestamps)b::bigint[],
    %(steps)b::bigint[], %(nans)b::boolean[], %(newest)b::boolean[]
);

-- name: log_model_metrics
-- Add metrics of logged models that are not there yet.
SELECT mlops.log_model_metrics(
    %(run_id)b, %(workspace)b, %(model_ids)b::text[], %(keys)b::text[], %(values)b::float8[],
    %(timestamps)b::bigint[], %(steps)b::bigint[], %(dataset_uuid)b, %(dataset_names)b::text[],
    %(dataset_digests)b::text[]
);

-- name: log_params
-- Add the params of one run that are not there yet.
SELECT mlops.log_params(%(run_id)b, %(workspace)b, %(keys)b::text[], %(values)b::text[]);

-- name: set_tags
-- Set the tags of one run.
SELECT mlops.set_tags(%(run_id)b, %(workspace)b, %(keys)b::text[], %(values)b::text[]);

-- name: create_run
-- Start a run whose artifacts go where the experiment's do; where is that?
SELECT mlops.create_run(
    %(experiment_id)b::integer, %(workspace)b, %(root)b, %(run_id)b, %(name)b, %(user_id)b,
    %(status)b, %(start_time)b::bigint, %(artifact_uri)b, %(keys)b::text[], %(values)b::text[]
);

-- name: run_info
-- The attributes of a run (in this workspace).
SELECT
    runs.run_uuid, runs.name, runs.experiment_id::text, runs.user_id, runs.status,
    runs.start_time, runs.end_time, runs.lifecycle_stage, runs.artifact_uri
FROM runs
WHERE runs.run_uuid = %(run_id)s
    AND (
        %(workspace)s::text IS NULL
        OR EXISTS (
            SELECT FROM experiments
            WHERE experiments.experiment_id = runs.experiment_id
                AND experiments.workspace = %(workspace)s
        )
    );

-- name: run_metrics
-- The latest metrics of runs, one row a run.
SELECT
    run_uuid, array_agg(key::text),
    array_agg(CASE WHEN is_nan THEN 'NaN' ELSE value END), array_agg("timestamp"), array_agg(step)
FROM latest_metrics
WHERE run_uuid = ANY(%(run_ids)b::text[])
GROUP BY run_uuid;

-- name: run_params
-- The params of runs, one row a run.
SELECT run_uuid, array_agg(key::text), array_agg(value::text)
FROM params
WHERE run_uuid = ANY(%(run_ids)b::text[])
GROUP BY run_uuid;

-- name: run_tags
-- The tags of runs, one row a run.
SELECT run_uuid, array_agg(key::text), array_agg(value::text)
FROM tags
WHERE run_uuid = ANY(%(run_ids)b::text[])
GROUP BY run_uuid;

-- name: run_datasets
-- The datasets that went into runs, with the tags of each use.
SELECT
    inputs.destination_id, datasets.dataset_uuid, datasets.name, datasets.digest,
    datasets.dataset_source_type, datasets.dataset_source, datasets.dataset_schema,
    datasets.dataset_profile, input_tags.name, input_tags.value
FROM inputs
JOIN datasets ON datasets.dataset_uuid = inputs.source_id
LEFT JOIN input_tags ON input_tags.input_uuid = inputs.input_uuid
WHERE inputs.destination_type = 'RUN' AND inputs.destination_id = ANY(%(run_ids)b::text[]);

-- name: run_models
-- The logged models that went into runs ("RUN_INPUT") and came out of them ("RUN_OUTPUT").
SELECT source_id, source_type, destination_id, step
FROM inputs
WHERE source_id = ANY(%(run_ids)b::text[])
    AND (source_type, destination_type)
        IN (('RUN_INPUT', 'MODEL_INPUT'), ('RUN_OUTPUT', 'MODEL_OUTPUT'));

-- name: has_marks
-- Was this database adopted (0101)?
SELECT to_regclass('mlops.metric_marks') IS NOT NULL;

-- name: run_range
-- In which range of time does a run have points? Compiling the reads that follow would take longer
-- than they do.
SELECT first_ms, last_ms, set_config('jit', 'off', true)
FROM mlops.run_ranges
WHERE run_uuid = %(run_id)s;

-- name: series
-- How long is a series, how much of it lies after its last mark, and is it in the order of its
-- timestamps? Marks that points were dropped from under do not count.
WITH last AS (
    SELECT rank, step, "timestamp" AS ms, value, is_nan
    FROM mlops.metric_marks
    WHERE run_uuid = %(run_id)s AND key = %(key)s
    ORDER BY rank DESC
    LIMIT 1
), first AS (
    SELECT step, "timestamp" AS ms, value, is_nan
    FROM mlops.metric_marks
    WHERE run_uuid = %(run_id)s AND key = %(key)s
    ORDER BY rank
    LIMIT 1
), tail AS (
    SELECT
        "timestamp" AS ms,
        lag("timestamp") OVER (ORDER BY step, "timestamp", value, is_nan) AS previous_ms
    FROM metrics
    WHERE run_uuid = %(run_id)s
        AND key = %(key)s
        AND "timestamp" BETWEEN %(first_ms)s AND %(last_ms)s
        AND (step, "timestamp", value, is_nan) >= (
            coalesce((SELECT step FROM last), -9223372036854775808),
            coalesce((SELECT ms FROM last), -9223372036854775808),
            coalesce((SELECT value FROM last), '-Infinity'),
            coalesce((SELECT is_nan FROM last), false)
        )
)
SELECT
    coalesce((SELECT rank FROM last), 0) AS marked,
    count(*) AS tail,
    coalesce(bool_and(previous_ms IS NULL OR ms >= previous_ms), true) AND NOT EXISTS (
        SELECT FROM mlops.metric_marks
        WHERE run_uuid = %(run_id)s AND key = %(key)s AND NOT ordered
    ) AS ordered,
    NOT EXISTS (SELECT FROM first) OR EXISTS (
        SELECT FROM first
        JOIN metrics ON metrics.run_uuid = %(run_id)s
            AND metrics.key = %(key)s
            AND metrics."timestamp" BETWEEN %(first_ms)s AND %(last_ms)s
            AND metrics.step = first.step
            AND metrics."timestamp" = first.ms
            AND metrics.value = first.value
            AND metrics.is_nan = first.is_nan
    ) AS intact
FROM tail;

-- name: series_by_scan
-- How long is a series whose marks do not count?
SELECT count(*)
FROM metrics
WHERE run_uuid = %(run_id)s
    AND key = %(key)s
    AND "timestamp" BETWEEN %(first_ms)s AND %(last_ms)s;

-- name: rows_before
-- How many points of a series lie before a step?
WITH mark AS (
    SELECT rank, step, "timestamp" AS ms, value, is_nan
    FROM mlops.metric_marks
    WHERE run_uuid = %(run_id)s AND key = %(key)s AND step < %(step)s
    ORDER BY step DESC, "timestamp" DESC, value DESC, is_nan DESC
    LIMIT 1
)
SELECT coalesce((SELECT rank FROM mark), 0) + count(*)
FROM metrics
WHERE run_uuid = %(run_id)s
    AND key = %(key)s
    AND "timestamp" BETWEEN %(first_ms)s AND %(last_ms)s
    AND step < %(step)s
    AND (step, "timestamp", value, is_nan) >= (
        coalesce((SELECT step FROM mark), -9223372036854775808),
        coalesce((SELECT ms FROM mark), -9223372036854775808),
        coalesce((SELECT value FROM mark), '-Infinity'),
        coalesce((SELECT is_nan FROM mark), false)
    );

-- name: rows_before_by_scan
-- The same, of a series whose marks do not count.
SELECT count(*)
FROM metrics
WHERE run_uuid = %(run_id)s
    AND key = %(key)s
    AND "timestamp" BETWEEN %(first_ms)s AND %(last_ms)s
    AND step < %(step)s;

-- name: points_at
-- The points of these ranks, each a short walk from the mark that is nearest: 32 points on average.
SELECT point.value, point.ms, point.step, point.is_nan
FROM unnest(%(ranks)b::bigint[]) WITH ORDINALITY AS wanted (rank, position)
LEFT JOIN LATERAL (
    SELECT rank, step, "timestamp" AS ms, value, is_nan
    FROM mlops.metric_marks
    WHERE run_uuid = %(run_id)s
        AND key = %(key)s
        AND rank <= least(wanted.rank + 64, %(marked)s)
    ORDER BY rank DESC -- by the index of ranks, whatever the statistics say
    LIMIT 1
) AS mark ON true
CROSS JOIN LATERAL (
    (
        SELECT metrics.value, metrics."timestamp" AS ms, metrics.step, metrics.is_nan
        FROM metrics
        WHERE coalesce(mark.rank, 0) <= wanted.rank
            AND metrics.run_uuid = %(run_id)s
            AND metrics.key = %(key)s
            AND metrics."timestamp" BETWEEN %(first_ms)s AND %(last_ms)s
            AND (metrics.step, metrics."timestamp", metrics.value, metrics.is_nan) >= (
                coalesce(mark.step, -9223372036854775808), coalesce(mark.ms, -9223372036854775808),
                coalesce(mark.value, '-Infinity'), coalesce(mark.is_nan, false)
            )
        ORDER BY metrics.step, metrics."timestamp", metrics.value, metrics.is_nan
        LIMIT 1
        OFFSET greatest(wanted.rank - coalesce(mark.rank, 0), 0)
    )
    UNION ALL
    (
        SELECT metrics.value, metrics."timestamp" AS ms, metrics.step, metrics.is_nan
        FROM metrics
        WHERE mark.rank > wanted.rank
            AND metrics.run_uuid = %(run_id)s
            AND metrics.key = %(key)s
            AND metrics."timestamp" BETWEEN %(first_ms)s AND %(last_ms)s
            AND (metrics.step, metrics."timestamp", metrics.value, metrics.is_nan)
                <= (mark.step, mark.ms, mark.value, mark.is_nan)
        ORDER BY
            metrics.step DESC, metrics."timestamp" DESC, metrics.value DESC, metrics.is_nan DESC
        LIMIT 1
        OFFSET greatest(mark.rank - wanted.rank, 0)
    )
) AS point
ORDER BY wanted.position;

-- name: points_at_by_scan
-- The points of these ranks, of a series without marks.
SELECT value, ms, step, is_nan
FROM (
    SELECT
        value, "timestamp" AS ms, step, is_nan,
        row_number() OVER (ORDER BY step, "timestamp", value, is_nan) - 1 AS rank
    FROM metrics
    WHERE run_uuid = %(run_id)s
        AND key = %(key)s
        AND "timestamp" BETWEEN %(first_ms)s AND %(last_ms)s
) AS point
WHERE rank = ANY(%(ranks)b::bigint[])
ORDER BY rank;

-- name: points_from
-- The points of an ordered series from a rank on.
WITH mark AS (
    SELECT rank, step, "timestamp" AS ms, value, is_nan
    FROM mlops.metric_marks
    WHERE run_uuid = %(run_id)s AND key = %(key)s AND rank <= %(rank)s
    ORDER BY rank DESC
    LIMIT 1
)
SELECT value, "timestamp", step, is_nan
FROM metrics
WHERE run_uuid = %(run_id)s
    AND key = %(key)s
    AND "timestamp" BETWEEN %(first_ms)s AND %(last_ms)s
    AND (step, "timestamp", value, is_nan) >= (
        coalesce((SELECT step FROM mark), -9223372036854775808),
        coalesce((SELECT ms FROM mark), -9223372036854775808),
        coalesce((SELECT value FROM mark), '-Infinity'),
        coalesce((SELECT is_nan FROM mark), false)
    )
ORDER BY step, "timestamp", value, is_nan
LIMIT %(limit)s
OFFSET %(rank)s - coalesce((SELECT rank FROM mark), 0);

-- name: points_by_time
-- The points of a series whose timestamps and steps disagree, in the order of their timestamps.
SELECT value, "timestamp", step, is_nan
FROM metrics
WHERE run_uuid = %(run_id)s
    AND key = %(key)s
    AND "timestamp" BETWEEN %(first_ms)s AND %(last_ms)s
ORDER BY "timestamp", step, value, is_nan
LIMIT %(limit)s
OFFSET %(rank)s;

-- name: points_of_steps
-- The points of a series at these steps.
SELECT value, "timestamp", step, is_nan
FROM metrics
WHERE run_uuid = %(run_id)s
    AND key = %(key)s
    AND "timestamp" BETWEEN %(first_ms)s AND %(last_ms)s
    AND step = ANY(%(steps)s::bigint[])
ORDER BY step, "timestamp", value, is_nan
LIMIT %(limit)s;

-- name: max_step
-- The greatest step of a series: the latest point is the one of the greatest step.
SELECT step FROM latest_metrics WHERE run_uuid = %(run_id)s AND key = %(key)s;

-- name: drop_points
-- Remove every point before a time.
SELECT mlops.drop_points(%(before_ms)s);
