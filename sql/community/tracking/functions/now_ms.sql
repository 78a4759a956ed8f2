--! requires: mlflow metrics_rebuild
-- The current time in the unit of metrics: compression policies need it for a table on integers.
CREATE OR REPLACE FUNCTION mlops.now_ms() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT (extract(epoch FROM now()) * 1000)::bigint
$$;
