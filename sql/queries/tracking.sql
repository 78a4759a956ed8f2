-- name: open_run
-- May this run (of this workspace) be written to?
SELECT mlops.open_run(%(run_id)b, %(workspace)b);

-- name: log_metric
-- Add one point of a run if it is not there yet, and move its latest metric on.
SELECT mlops.log_metric(
    %(run_id)b, %(workspace)b, %(key)b, %(value)b, %(timestamp)b, %(step)b, %(is_nan)b
);

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
-- Set the tags of one run, and tell the history of tags who does it, and why.
SELECT set_config('mlops.authenticated_user', %(authenticated)b, true),
    set_config('mlops.claimed_user', %(claimed)b, true), set_config('mlops.reason', %(reason)b, true),
    mlops.set_tags(%(run_id)b, %(workspace)b, %(keys)b::text[], %(values)b::text[]);

-- name: attribute
-- Tell the history of tags, for the rest of this transaction, who changes them, and why.
SELECT set_config('mlops.authenticated_user', %(authenticated)s, true),
    set_config('mlops.claimed_user', %(claimed)s, true), set_config('mlops.reason', %(reason)s, true);

-- name: keep_tag
-- Keep a history of a tag from now on, or no longer; was that a change?
SELECT mlops.keep_tag(%(key)s, %(kept)s);

-- name: has_kept_tags
-- Has this database a history of tags?
SELECT to_regclass('mlops.kept_tags') IS NOT NULL;

-- name: kept_tags
-- Of which tags is, or was, a history kept?
-- A period that begins when a released database is adopted again (`end_kept_tags`) has not begun.
SELECT key, kept_from, kept_to, db_user FROM mlops.kept_tags
WHERE kept_from < 'infinity'
ORDER BY key, kept_from;

-- name: tag_history
-- Which values had the kept tags of a run, or of the runs of an experiment?
SELECT run_id, experiment_id, key, value, valid_from, valid_to, db_user, authenticated_user,
    claimed_user, reason, ended, ended_db_user, ended_authenticated_user, ended_claimed_user,
    ended_reason
FROM mlops.run_tag_history
WHERE (%(run_id)s::text IS NULL OR run_id = %(run_id)s)
    AND (%(experiment_id)s::integer IS NULL OR experiment_id = %(experiment_id)s)
    AND (%(key)s::text IS NULL OR key = %(key)s)
    AND (%(as_of)s::timestamptz IS NULL
        OR valid_from <= %(as_of)s AND (valid_to IS NULL OR valid_to > %(as_of)s))
ORDER BY valid_from, history_id;

-- name: experiment_names
-- What are the experiments called?
SELECT name FROM experiments ORDER BY name;

-- name: run_names
-- What are these runs called?
SELECT run_uuid::text, name::text FROM runs WHERE run_uuid = ANY(%(run_ids)s::text[]);

-- name: create_run
-- Start a run whose artifacts go where the experiment's do; where is that?
SELECT set_config('mlops.authenticated_user', %(authenticated)b, true),
    set_config('mlops.claimed_user', %(claimed)b, true), set_config('mlops.reason', %(reason)b, true),
    mlops.create_run(
    %(experiment_id)b::integer, %(workspace)b, %(root)b, %(run_id)b, %(name)b, %(user_id)b,
    %(status)b, %(start_time)b::bigint, %(artifact_uri)b, %(keys)b::text[], %(values)b::text[]
);

-- name: open_runs
-- May these runs (of this workspace) be written to?
SELECT mlops.open_run(run, %(workspace)s) FROM unnest(%(runs)s::text[]) AS run;

-- name: copy_points
-- Add points of any number of runs, of which none is there.
COPY metrics (run_uuid, key, value, "timestamp", step, is_nan) FROM STDIN (FORMAT binary);

-- name: add_points
-- Add the points of any number of runs that are not there yet.
INSERT INTO metrics (run_uuid, key, value, "timestamp", step, is_nan)
SELECT point.*
FROM unnest(
    %(runs)b::text[], %(keys)b::text[], %(values)b::float8[], %(timestamps)b::bigint[],
    %(steps)b::bigint[], %(nans)b::boolean[]
) AS point
ON CONFLICT DO NOTHING;

-- name: raise_latest
-- Move the latest metrics of any number of runs on, to one point of each series.
INSERT INTO latest_metrics AS latest (run_uuid, key, value, "timestamp", step, is_nan)
SELECT point.*
FROM unnest(
    %(runs)b::text[], %(keys)b::text[], %(values)b::float8[], %(timestamps)b::bigint[],
    %(steps)b::bigint[], %(nans)b::boolean[]
) AS point (run_uuid, key, value, ms, step, is_nan)
ORDER BY point.run_uuid, point.key
ON CONFLICT (key, run_uuid) DO UPDATE SET
    value = excluded.value,
    "timestamp" = excluded."timestamp",
    step = excluded.step,
    is_nan = excluded.is_nan
WHERE (excluded.step, excluded."timestamp", excluded.value)
    > (latest.step, latest."timestamp", latest.value);

-- name: claim_writes
-- Which of these writes are new? They count as made when the transaction commits.
INSERT INTO mlops.requests (request, content)
SELECT id, 0 FROM unnest(%(ids)s::uuid[]) AS id ORDER BY id
ON CONFLICT DO NOTHING
RETURNING request::text;

-- name: run_exists
-- Is there a run with this id, in any workspace?
SELECT EXISTS (SELECT FROM runs WHERE run_uuid = %(run_id)s);

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

-- name: can_measure
-- Was this database adopted: are there marks of metrics?
SELECT to_regproc('mlops.measure') IS NOT NULL;

-- name: measure
-- How long is a series, and in which range of time does its run have points? Compiling the reads that
-- follow would take longer than they do.
SELECT marked, points, ordered, first_ms, last_ms, set_config('jit', 'off', true)
FROM mlops.measure(%(run_id)s, %(key)s)
WHERE first_ms IS NOT NULL;

-- name: sample
-- A sample of a series between two steps, evenly spread by rank.
SELECT value, ms, step, is_nan
FROM mlops.sample_points(
    %(run_id)b, %(key)b, %(buckets)b::bigint, %(start_step)b::numeric, %(end_step)b::numeric
)
ORDER BY step, ms, value, is_nan;

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

-- name: generated_point
-- The one point of a metric that was generated ("loss/min"), between two steps (NULL: of any).
SELECT latest.value, latest."timestamp", latest.step, latest.is_nan
FROM mlops.generated_metrics AS generated
JOIN latest_metrics AS latest USING (run_uuid, key)
WHERE generated.run_uuid = %(run_id)s
    AND generated.key = %(key)s
    AND (%(start_step)s::numeric IS NULL OR latest.step >= %(start_step)s::numeric)
    AND (%(end_step)s::numeric IS NULL OR latest.step <= %(end_step)s::numeric);

-- name: max_step
-- The greatest step of a series: the latest point is the one of the greatest step.
SELECT step FROM latest_metrics WHERE run_uuid = %(run_id)s AND key = %(key)s;

-- name: artifact_locations
-- Where do all experiments have their artifacts, those of other workspaces and deleted ones too?
SELECT artifact_location FROM experiments WHERE artifact_location IS NOT NULL;

-- name: may_add_questions
-- May this login add to the questions of an experiment?
SELECT has_table_privilege('label_schemas', 'INSERT');
