--! requires: mlflow
CREATE OR REPLACE VIEW mlops.model_training_runs AS SELECT * FROM mlops.mlflow_model_training_runs();

COMMENT ON VIEW mlops.model_training_runs IS
    'The run that trained each model version: parameters, data period, times, status, code version';
