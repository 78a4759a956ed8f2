--! requires: mlflow
-- A call of the tracking store is one statement, and so one round trip and one transaction: each of
-- these looks at the run and writes to it. What MLflow refuses is raised with a code of ours ("ML..."),
-- which mlflow_timescale/tracking/errors.py turns into MLflow's.

-- Which experiment does a run belong to, that exists (in this workspace) and may be written to?
CREATE FUNCTION mlops.open_run(run text, in_workspace text) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    stage text;
    experiment integer;
BEGIN
    SELECT lifecycle_stage, experiment_id INTO stage, experiment FROM runs WHERE run_uuid = run;
    IF NOT FOUND OR in_workspace IS NOT NULL AND NOT EXISTS (
        SELECT FROM experiments
        WHERE experiments.experiment_id = experiment AND workspace = in_workspace
    ) THEN
        RAISE EXCEPTION 'Run with id=% not found', run USING ERRCODE = 'ML404';
    END IF;
    IF stage <> 'active' THEN
        RAISE EXCEPTION 'The run % must be in the ''active'' state. Current state is %.', run, stage
            USING ERRCODE = 'ML400';
    END IF;
    RETURN experiment;
END
$$;

-- Add points that are not there yet, and move latest metrics on: `newest` says which point is the
-- last of its series here. The points go first: their trigger takes the run's lock, which every writer
-- of the run waits for before it touches anything else that writers share.
CREATE FUNCTION mlops.log_metrics(
    run text, in_workspace text, keys text[], points float8[], timestamps bigint[], steps bigint[],
    nans boolean[], newest boolean[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mlops.open_run(run, in_workspace);
    PERFORM mlops.insert_points(run, keys, points, timestamps, steps, nans);
    INSERT INTO latest_metrics AS latest (run_uuid, key, value, "timestamp", step, is_nan)
    SELECT run, point.key, point.value, point.ms, point.step, point.is_nan
    FROM unnest(keys, points, timestamps, steps, nans, newest)
        AS point (key, value, ms, step, is_nan, newest)
    WHERE point.newest
    ON CONFLICT (key, run_uuid) DO UPDATE SET
        value = excluded.value,
        "timestamp" = excluded."timestamp",
        step = excluded.step,
        is_nan = excluded.is_nan
    WHERE (excluded.step, excluded."timestamp", excluded.value)
        > (latest.step, latest."timestamp", latest.value);
END
$$;

-- Add metrics of logged models that are not there yet.
CREATE FUNCTION mlops.log_model_metrics(
    run text, in_workspace text, model_ids text[], keys text[], points float8[],
    timestamps bigint[], steps bigint[], dataset text, dataset_names text[],
    dataset_digests text[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    experiment integer := mlops.open_run(run, in_workspace);
BEGIN
    INSERT INTO logged_model_metrics (
        model_id, metric_name, metric_timestamp_ms, metric_step, metric_value,
        experiment_id, run_id, dataset_uuid, dataset_name, dataset_digest
    )
    SELECT
        point.model_id, point.key, point.ms, point.step, point.value,
        experiment, run, dataset, point.dataset_name, point.dataset_digest
    FROM unnest(model_ids, keys, timestamps, steps, points, dataset_names, dataset_digests)
        AS point (model_id, key, ms, step, value, dataset_name, dataset_digest)
    ON CONFLICT DO NOTHING;
END
$$;

-- Add params that are not there yet. A param that has another value already is an error, whose detail
-- lists [key, old value, new value].
CREATE FUNCTION mlops.log_params(run text, in_workspace text, keys text[], vals text[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    added bigint;
    changed json;
BEGIN
    PERFORM mlops.open_run(run, in_workspace);
    INSERT INTO params (run_uuid, key, value)
    SELECT run, param.key, param.value FROM unnest(keys, vals) AS param (key, value)
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS added = ROW_COUNT;
    IF added = cardinality(keys) THEN
        RETURN;
    END IF;
    SELECT json_agg(json_build_array(params.key, params.value, given.value) ORDER BY given.position)
    INTO changed
    FROM unnest(keys, vals) WITH ORDINALITY AS given (key, value, position)
    JOIN params ON params.run_uuid = run AND params.key = given.key
    WHERE params.value <> given.value;
    IF changed IS NOT NULL THEN
        RAISE EXCEPTION 'Changing param values is not allowed: run %', run
            USING ERRCODE = 'ML409', DETAIL = changed::text;
    END IF;
END
$$;

-- Set tags; the tag that holds the name renames the run.
CREATE FUNCTION mlops.set_tags(run text, in_workspace text, keys text[], vals text[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mlops.open_run(run, in_workspace);
    IF 'mlflow.runName' = ANY(keys) THEN
        UPDATE runs SET name = vals[array_position(keys, 'mlflow.runName')] WHERE run_uuid = run;
    END IF;
    INSERT INTO tags (run_uuid, key, value)
    SELECT run, tag.key, tag.value FROM unnest(keys, vals) AS tag (key, value)
    ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value;
END
$$;

-- Start a run with its tags, in an active experiment whose artifacts go where the caller thinks they
-- do; return where they go. Nothing is written where the caller was wrong: it asks again.
CREATE FUNCTION mlops.create_run(
    experiment integer, in_workspace text, expected_root text, run text, run_name text, run_user text,
    run_status text, started bigint, artifacts text, keys text[], vals text[]
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    stage text;
    root text;
BEGIN
    SELECT lifecycle_stage, artifact_location INTO stage, root
    FROM experiments
    WHERE experiment_id = experiment AND (in_workspace IS NULL OR workspace = in_workspace);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'No Experiment with id=% exists', experiment USING ERRCODE = 'ML404';
    END IF;
    IF stage <> 'active' THEN
        RAISE EXCEPTION 'The experiment % must be in the ''active'' state. Current state is %.',
            experiment, stage USING ERRCODE = 'ML400';
    END IF;
    IF root IS DISTINCT FROM expected_root THEN
        RETURN root;
    END IF;
    INSERT INTO runs (
        run_uuid, name, source_type, source_name, entry_point_name, source_version, user_id, status,
        start_time, lifecycle_stage, artifact_uri, experiment_id
    )
    VALUES (
        run, run_name, 'UNKNOWN', '', '', '', run_user, run_status, started, 'active', artifacts,
        experiment
    );
    INSERT INTO tags (run_uuid, key, value)
    SELECT run, tag.key, tag.value FROM unnest(keys, vals) AS tag (key, value);
    RETURN root;
END
$$;
