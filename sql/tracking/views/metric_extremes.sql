--! requires: mlflow metrics_rebuild
-- The best values of runs for SQL users; exact at any time, nothing is stored twice.
CREATE OR REPLACE VIEW mlops.metric_extremes AS SELECT * FROM mlops.mlflow_metric_extremes();

COMMENT ON VIEW mlops.metric_extremes IS
    'The least and the greatest value of every metric of every run, each with the first step that has it';
