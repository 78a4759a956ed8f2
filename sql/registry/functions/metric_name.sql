--! requires: mlflow
-- The metric's name without its dataset type.
CREATE OR REPLACE FUNCTION mlops.metric_name(key text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN mlops.metric_dataset_type(key) IS NULL THEN key
        ELSE substr(key, strpos(key, '/') + 1)
    END;
$$;
