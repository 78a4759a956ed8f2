--! requires: mlflow
-- The run that trained each model version.
CREATE OR REPLACE FUNCTION mlops.mlflow_model_training_runs() RETURNS TABLE (
    run_id text, workspace text, name text, version integer, params jsonb,
    dataset_start timestamptz, dataset_end timestamptz, started_at timestamptz,
    finished_at timestamptz, status text, git_sha text
) LANGUAGE sql STABLE AS $$
    SELECT r.run_uuid::text, v.workspace, v.name, v.version,
        coalesce(
            (SELECT jsonb_object_agg(p.key, p.value) FROM "@mlflow".params AS p
                WHERE p.run_uuid = r.run_uuid),
            '{}'
        ),
        mlops.utc_time(coalesce(
            (SELECT t.value::text FROM "@mlflow".tags AS t
                WHERE t.run_uuid = r.run_uuid AND t.key = 'dataset_start'),
            (SELECT p.value::text FROM "@mlflow".params AS p
                WHERE p.run_uuid = r.run_uuid AND p.key = 'dataset_start')
        )),
        mlops.utc_time(coalesce(
            (SELECT t.value::text FROM "@mlflow".tags AS t
                WHERE t.run_uuid = r.run_uuid AND t.key = 'dataset_end'),
            (SELECT p.value::text FROM "@mlflow".params AS p
                WHERE p.run_uuid = r.run_uuid AND p.key = 'dataset_end')
        )),
        mlops.milliseconds_time(r.start_time), mlops.milliseconds_time(r.end_time),
        CASE r.status WHEN 'FINISHED' THEN 'completed' ELSE lower(r.status) END,
        coalesce(
            (SELECT t.value::text FROM "@mlflow".tags AS t
                WHERE t.run_uuid = r.run_uuid AND t.key = 'mlflow.source.git.commit'),
            nullif(r.source_version::text, '')
        )
    FROM mlops.mlflow_model_versions() AS v
    JOIN "@mlflow".runs AS r ON r.run_uuid = v.run_id
$$;
