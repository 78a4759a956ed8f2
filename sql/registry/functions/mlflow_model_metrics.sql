--! requires: mlflow
-- The metrics that the version's run logged, and those that other runs logged for its model
-- later. Where the run is shared, the keys that MLflow recorded for this model are read from that
-- record instead. The record has no flag for NaN: it is in the run's metrics.
CREATE OR REPLACE FUNCTION mlops.mlflow_model_metrics() RETURNS TABLE (
    workspace text, name text, version integer, metric_name text, value double precision,
    dataset_type text, evaluated_at timestamptz, step bigint, run_id text
) LANGUAGE sql STABLE AS $$
    SELECT v.workspace, v.name, v.version, mlops.metric_name(m.key),
        mlops.metric_value(m.value, m.is_nan), mlops.metric_dataset_type(m.key),
        mlops.milliseconds_time(m."timestamp"), m.step, m.run_uuid::text
    FROM mlops.mlflow_model_versions() AS v
    JOIN "@mlflow".metrics AS m ON m.run_uuid = v.run_id
    WHERE NOT EXISTS (
        SELECT FROM "@mlflow".logged_model_metrics AS o
        WHERE v.shares_run AND o.model_id = v.model_id AND o.metric_name = m.key
    )
    UNION ALL
    SELECT v.workspace, v.name, v.version, mlops.metric_name(o.metric_name),
        mlops.metric_value(
            o.metric_value,
            o.metric_value = 0 AND EXISTS (
                SELECT FROM "@mlflow".metrics AS n
                WHERE n.run_uuid = o.run_id AND n.key = o.metric_name AND n.step = o.metric_step
                    AND n."timestamp" = o.metric_timestamp_ms AND n.is_nan
            )
        ),
        mlops.metric_dataset_type(o.metric_name),
        mlops.milliseconds_time(o.metric_timestamp_ms), o.metric_step, o.run_id::text
    FROM mlops.mlflow_model_versions() AS v
    JOIN "@mlflow".logged_model_metrics AS o ON o.model_id = v.model_id
    WHERE v.shares_run OR o.run_id IS DISTINCT FROM v.run_id
$$;
