--! requires: mlflow
-- MLflow's key of these tags begins with the tag's name: without an index in the order of versions
-- every search reads the tags of all versions of all models.
CREATE INDEX IF NOT EXISTS mlops_version_tags
    ON model_version_tags (workspace, name, version);
