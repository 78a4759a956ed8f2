--! requires: mlflow
-- The subject of a registry row in a history; NULL where it has none (a deleted version stays in
-- MLflow's table under the stage Deleted_Internal).
CREATE OR REPLACE FUNCTION mlops.registry_subject(kind text, item jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN item IS NULL OR item ->> 'current_stage' = 'Deleted_Internal' THEN NULL
        WHEN kind = 'alias' THEN item ->> 'alias'
        WHEN kind = 'tag' THEN (item ->> 'version') || '/' || (item ->> 'key')
        WHEN kind = 'model' THEN ''
        ELSE item ->> 'version'
    END
$$;
