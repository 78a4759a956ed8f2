--! requires: mlflow
-- A time from MLflow's milliseconds since 1970.
CREATE OR REPLACE FUNCTION mlops.milliseconds_time(given bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT to_timestamp(given / 1000.0);
$$;
