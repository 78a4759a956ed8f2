--! requires: mlflow
--! replaces: base/0102_runs_by_start base/0220_version_tags_index
-- The order in which runs are listed: without an index, every page sorts all runs of the experiment.
CREATE INDEX IF NOT EXISTS mlops_runs_by_start
    ON "@mlflow".runs (experiment_id, start_time DESC, run_uuid);

-- The key of these tags begins with the tag's name: without an index in the order of versions, every
-- search reads the tags of all versions of all models.
CREATE INDEX IF NOT EXISTS mlops_version_tags
    ON "@mlflow".model_version_tags (workspace, name, version);
