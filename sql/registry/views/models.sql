--! requires: mlflow
-- The model registry for SQL users; nothing is stored twice.
CREATE OR REPLACE VIEW mlops.models AS
SELECT models.*, (SELECT kept.checksum FROM mlops.source_artifacts(source, run_id) AS kept) AS checksum
FROM mlops.mlflow_models() AS models;

COMMENT ON VIEW mlops.models IS
    'Every model version in the registry: what it is, what it was trained with, how good it was';
