--! requires: mlflow
CREATE OR REPLACE VIEW mlops.version_failures AS
SELECT v.workspace, v.name, v.version, failed.*
FROM mlops.mlflow_model_versions() AS v
CROSS JOIN LATERAL mlops.source_failures(v.source, v.run_id) AS failed;

COMMENT ON VIEW mlops.version_failures IS
    'Files of model versions that were found changed or missing, and not found whole since';
