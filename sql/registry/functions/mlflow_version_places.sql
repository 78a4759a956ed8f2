--! requires: mlflow
-- Where the files of each existing model version are: MLflow loads storage_location, and the source
-- where that is missing.
CREATE OR REPLACE FUNCTION mlops.mlflow_version_places() RETURNS TABLE (
    workspace text, name text, version integer, place text, run_id text
) LANGUAGE sql STABLE AS $$
    SELECT v.workspace::text, v.name::text, v.version,
        coalesce(nullif(v.storage_location::text, ''), v.source::text), v.run_id::text
    FROM "@mlflow".model_versions AS v
    WHERE v.current_stage IS DISTINCT FROM 'Deleted_Internal'
$$;
