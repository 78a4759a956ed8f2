--! requires: mlflow
CREATE OR REPLACE VIEW mlops.version_checksums AS
SELECT v.workspace, v.name, v.version, kept.*
FROM mlops.mlflow_model_versions() AS v
JOIN mlops.mlflow_version_places() AS place USING (workspace, name, version)
CROSS JOIN LATERAL mlops.source_artifacts(place.place, place.run_id) AS kept;

COMMENT ON VIEW mlops.version_checksums IS
    'One SHA-256, the number of files and their size for every model version, from the ledger';
