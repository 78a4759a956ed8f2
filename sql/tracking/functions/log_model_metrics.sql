--! requires: mlflow
-- Add the metrics of logged models that do not exist yet.
CREATE OR REPLACE FUNCTION mlops.log_model_metrics(
    run text, in_workspace text, model_ids text[], keys text[], points float8[],
    timestamps bigint[], steps bigint[], dataset text, dataset_names text[],
    dataset_digests text[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    experiment integer := mlops.open_run(run, in_workspace);
BEGIN
    INSERT INTO "@mlflow".logged_model_metrics (
        model_id, metric_name, metric_timestamp_ms, metric_step, metric_value,
        experiment_id, run_id, dataset_uuid, dataset_name, dataset_digest
    )
    SELECT
        point.model_id, point.key, point.ms, point.step, point.value,
        experiment, run, dataset, point.dataset_name, point.dataset_digest
    FROM unnest(model_ids, keys, timestamps, steps, points, dataset_names, dataset_digests)
        AS point (model_id, key, ms, step, value, dataset_name, dataset_digest)
    ON CONFLICT DO NOTHING;
END
$$;
