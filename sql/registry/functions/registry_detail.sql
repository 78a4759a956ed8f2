--! requires: mlflow
-- The details that a history keeps of a registry row.
CREATE OR REPLACE FUNCTION mlops.registry_detail(kind text, item jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE kind
        WHEN 'version' THEN jsonb_strip_nulls(jsonb_build_object(
            'run_id', item -> 'run_id', 'storage_location', item -> 'storage_location',
            'user_id', item -> 'user_id'))
        ELSE '{}'
    END
$$;
