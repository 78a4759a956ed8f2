-- name: run_state
-- Does this run exist (in this workspace), and may it be written to?
SELECT runs.lifecycle_stage, runs.experiment_id
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

-- name: insert_metrics
-- Add the points of one run that are not there yet.
SELECT mlops.insert_points(
    %(run_id)s, %(keys)b::text[], %(values)b::float8[], %(timestamps)b::bigint[],
    %(steps)b::bigint[], %(nans)b::boolean[]
);

-- name: upsert_latest
-- Keep the greatest (step, timestamp, value) of each series.
INSERT INTO latest_metrics AS latest (run_uuid, key, value, "timestamp", step, is_nan)
SELECT %(run_id)s, point.key, point.value, point.ms, point.step, point.is_nan
FROM unnest(
    %(keys)b::text[], %(values)b::float8[], %(timestamps)b::bigint[], %(steps)b::bigint[],
    %(nans)b::boolean[]
) AS point (key, value, ms, step, is_nan)
ON CONFLICT (key, run_uuid) DO UPDATE SET
    value = excluded.value,
    "timestamp" = excluded."timestamp",
    step = excluded.step,
    is_nan = excluded.is_nan
WHERE (excluded.step, excluded."timestamp", excluded.value)
    > (latest.step, latest."timestamp", latest.value);

-- name: insert_model_metrics
-- Add metrics of logged models that are not there yet.
INSERT INTO logged_model_metrics (
    model_id, metric_name, metric_timestamp_ms, metric_step, metric_value,
    experiment_id, run_id, dataset_uuid, dataset_name, dataset_digest
)
SELECT
    point.model_id, point.key, point.ms, point.step, point.value,
    %(experiment_id)s, %(run_id)s, %(dataset_uuid)s, point.dataset_name, point.dataset_digest
FROM unnest(
    %(model_ids)b::text[], %(keys)b::text[], %(timestamps)b::bigint[], %(steps)b::bigint[],
    %(values)b::float8[], %(dataset_names)b::text[], %(dataset_digests)b::text[]
) AS point (model_id, key, ms, step, value, dataset_name, dataset_digest)
ON CONFLICT DO NOTHING;

-- name: insert_params
-- Add the params of one run that are not there yet.
INSERT INTO params (run_uuid, key, value)
SELECT %(run_id)s, param.key, param.value
FROM unnest(%(keys)b::text[], %(values)b::text[]) AS param (key, value)
ON CONFLICT DO NOTHING;

-- name: changed_params
-- Which of these params have another value already?
SELECT params.key, params.value AS old_value, given.value AS new_value
FROM unnest(%(keys)b::text[], %(values)b::text[]) WITH ORDINALITY AS given (key, value, position)
JOIN params ON params.run_uuid = %(run_id)s AND params.key = given.key
WHERE params.value <> given.value
ORDER BY given.position;

-- name: upsert_tags
-- Set the tags of one run.
INSERT INTO tags (run_uuid, key, value)
SELECT %(run_id)s, tag.key, tag.value
FROM unnest(%(keys)b::text[], %(values)b::text[]) AS tag (key, value)
ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value;

-- name: insert_tags
-- Set the tags of a run that has none yet.
INSERT INTO tags (run_uuid, key, value)
SELECT %(run_id)s, tag.key, tag.value
FROM unnest(%(keys)b::text[], %(values)b::text[]) AS tag (key, value);

-- name: rename_run
-- Give a run another name.
UPDATE runs SET name = %(name)s WHERE run_uuid = %(run_id)s;

-- name: experiment
-- Where do the artifacts of an experiment go, and may it be written to?
SELECT experiment_id, artifact_location, lifecycle_stage
FROM experiments
WHERE experiment_id = %(experiment_id)s
    AND (%(workspace)s::text IS NULL OR workspace = %(workspace)s);

-- name: insert_run
-- Start a run.
INSERT INTO runs (
    run_uuid, name, source_type, source_name, entry_point_name, source_version, user_id, status,
    start_time, lifecycle_stage, artifact_uri, experiment_id
)
VALUES (
    %(run_id)s, %(name)s, 'UNKNOWN', '', '', '', %(user_id)s, %(status)s,
    %(start_time)s, %(stage)s, %(artifact_uri)s, %(experiment_id)s
);

-- name: run_infos
-- The attributes of runs, in the order asked for.
SELECT
    runs.run_uuid, runs.name, runs.experiment_id::text, runs.user_id, runs.status,
    runs.start_time, runs.end_time, runs.lifecycle_stage, runs.artifact_uri
FROM unnest(%(run_ids)b::text[]) WITH ORDINALITY AS wanted (run_id, position)
JOIN runs ON runs.run_uuid = wanted.run_id
ORDER BY wanted.position;

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
-- The points of these ranks, each a short walk from its mark.
SELECT point.value, point.ms, point.step, point.is_nan
FROM unnest(%(ranks)b::bigint[]) WITH ORDINALITY AS wanted (rank, position)
LEFT JOIN LATERAL (
    SELECT rank, step, "timestamp", value, is_nan
    FROM mlops.metric_marks
    WHERE run_uuid = %(run_id)s
        AND key = %(key)s
        AND rank = least(wanted.rank - wanted.rank %% 128, %(marked)s)
    LIMIT 1 -- one look into the index for each rank, whatever the planner thinks
) AS mark ON true
CROSS JOIN LATERAL (
    SELECT metrics.value, metrics."timestamp" AS ms, metrics.step, metrics.is_nan
    FROM metrics
    WHERE metrics.run_uuid = %(run_id)s
        AND metrics.key = %(key)s
        AND metrics."timestamp" BETWEEN %(first_ms)s AND %(last_ms)s
        AND (metrics.step, metrics."timestamp", metrics.value, metrics.is_nan) >= (
            coalesce(mark.step, -9223372036854775808),
            coalesce(mark."timestamp", -9223372036854775808),
            coalesce(mark.value, '-Infinity'), coalesce(mark.is_nan, false)
        )
    ORDER BY metrics.step, metrics."timestamp", metrics.value, metrics.is_nan
    LIMIT 1
    OFFSET wanted.rank - coalesce(mark.rank, 0)
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
