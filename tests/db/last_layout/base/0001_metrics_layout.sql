--! requires: mlflow metrics_rebuild
-- MLflow keeps three indexes on metrics, none in the order in which a metric is read
-- (mlflow/mlflow#12813: 2.2 TB, more than half of it index). One in that order serves uniqueness,
-- histories and charts.
ALTER TABLE metrics DROP CONSTRAINT metric_pk;
ALTER TABLE metrics ADD CONSTRAINT metric_pk
    PRIMARY KEY (run_uuid, key, step, "timestamp", value, is_nan);
DROP INDEX IF EXISTS index_metrics_run_uuid;
DROP INDEX IF EXISTS index_metrics_run_uuid_key_step;
