--! requires: mlflow
-- The experiment of a run that exists (in this workspace) and can be written to.
--
-- A call of the tracking store is one statement, so one round trip and one transaction: each
-- function checks the run and writes. What MLflow refuses is raised with an SQLSTATE of ours
-- ("ML..."), which mlflow_timescale/tracking/errors.py translates to MLflow's error.
CREATE OR REPLACE FUNCTION mlops.open_run(run text, in_workspace text) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    stage text;
    experiment integer;
BEGIN
    SELECT lifecycle_stage, experiment_id INTO stage, experiment FROM "@mlflow".runs WHERE run_uuid = run;
    IF NOT FOUND OR in_workspace IS NOT NULL AND NOT EXISTS (
        SELECT FROM "@mlflow".experiments
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
