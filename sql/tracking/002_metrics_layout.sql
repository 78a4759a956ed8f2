--! requires: mlflow metrics_rebuild
--! replaces: base/0001_metrics_layout
-- MLflow keeps three indexes on metrics, and none has the order in which a metric is read
-- (mlflow/mlflow#12813: 2.2 TB, more than half of it index). One index in that order serves
-- uniqueness, histories and charts.
ALTER TABLE "@mlflow".metrics DROP CONSTRAINT metric_pk;
ALTER TABLE "@mlflow".metrics ADD CONSTRAINT metric_pk
    PRIMARY KEY (run_uuid, key, step, "timestamp", value, is_nan);
DROP INDEX IF EXISTS "@mlflow".index_metrics_run_uuid;
DROP INDEX IF EXISTS "@mlflow".index_metrics_run_uuid_key_step;
