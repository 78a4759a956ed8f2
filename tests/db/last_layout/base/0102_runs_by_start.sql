--! requires: mlflow
-- The order in which runs are listed: without an index every page sorts every run of the experiment.
CREATE INDEX IF NOT EXISTS mlops_runs_by_start
    ON runs (experiment_id, start_time DESC, run_uuid);
