--! requires: mlflow functions
-- Freeze the files of the versions that exist.
SELECT mlops.register_files(workspace, name, version, place, run_id) FROM mlops.mlflow_version_places();
