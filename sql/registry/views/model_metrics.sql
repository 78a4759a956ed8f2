--! requires: mlflow
CREATE OR REPLACE VIEW mlops.model_metrics AS SELECT * FROM mlops.mlflow_model_metrics();

COMMENT ON VIEW mlops.model_metrics IS
    'Every metric point of every model version; "test/ic" is metric ic of dataset_type test';
