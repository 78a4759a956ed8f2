--! requires: mlflow
-- Start a run with its tags in an active experiment, and return the artifact root of the
-- experiment. If it differs from the root that the caller expected, nothing is written and the
-- caller tries again.
CREATE OR REPLACE FUNCTION mlops.create_run(
    experiment integer, in_workspace text, expected_root text, run text, run_name text, run_user text,
    run_status text, started bigint, artifacts text, keys text[], vals text[]
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    stage text;
    root text;
BEGIN
    SELECT lifecycle_stage, artifact_location INTO stage, root
    FROM "@mlflow".experiments
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
    INSERT INTO "@mlflow".runs (
        run_uuid, name, source_type, source_name, entry_point_name, source_version, user_id, status,
        start_time, lifecycle_stage, artifact_uri, experiment_id
    )
    VALUES (
        run, run_name, 'UNKNOWN', '', '', '', run_user, run_status, started, 'active', artifacts,
        experiment
    );
    INSERT INTO "@mlflow".tags (run_uuid, key, value)
    SELECT run, tag.key, tag.value FROM unnest(keys, vals) AS tag (key, value);
    RETURN root;
END
$$;
