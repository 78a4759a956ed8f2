--! requires: mlflow
-- The existing versions of models: MLflow keeps deleted versions, and prompts, in the same
-- tables. A run that logged several models (checkpoints) is shared: only some of its metrics
-- belong to this version.
--
-- This and the other mlflow_* functions have string bodies: PostgreSQL records no dependency on
-- MLflow's tables, so MLflow's migrations can alter them. It still inlines the functions, so that
-- a filter on a view uses the tables' indexes.
CREATE OR REPLACE FUNCTION mlops.mlflow_model_versions() RETURNS TABLE (
    workspace text, name text, version integer, description text, created_at timestamptz,
    status text, stage text, run_id text, source text, model_id text, shares_run boolean
) LANGUAGE sql STABLE AS $$
    SELECT v.workspace::text, v.name::text, v.version, v.description::text,
        mlops.milliseconds_time(v.creation_time), v.status::text, v.current_stage::text,
        v.run_id::text, v.source::text, substring(v.source::text FROM '^models:/(m-[^/]+)$'),
        EXISTS (
            SELECT FROM "@mlflow".inputs AS i
            WHERE i.source_type = 'RUN_OUTPUT' AND i.source_id = v.run_id
                AND i.destination_type = 'MODEL_OUTPUT'
                AND i.destination_id <> substring(v.source::text FROM '^models:/(m-[^/]+)$')
        )
    FROM "@mlflow".model_versions AS v
    WHERE v.current_stage IS DISTINCT FROM 'Deleted_Internal'
        AND NOT EXISTS (
            SELECT FROM "@mlflow".registered_model_tags AS t
            WHERE t.workspace = v.workspace AND t.name = v.name
                AND t.key = 'mlflow.prompt.is_prompt' AND t.value = 'true'
        )
$$;
