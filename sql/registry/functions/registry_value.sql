--! requires: mlflow
-- The value that a history keeps of a registry row.
CREATE OR REPLACE FUNCTION mlops.registry_value(kind text, item jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE kind
        WHEN 'alias' THEN item ->> 'version'
        WHEN 'tag' THEN item ->> 'value'
        WHEN 'stage' THEN item ->> 'current_stage'
        WHEN 'version' THEN item ->> 'source'
    END
$$;
