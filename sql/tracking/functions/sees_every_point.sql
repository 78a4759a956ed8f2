--! requires: mlflow metrics_rebuild
-- Whether a trigger on metrics sees every point of these times. The Community edition has its own
-- definition.
CREATE OR REPLACE FUNCTION mlops.sees_every_point(first_ms bigint, last_ms bigint) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$ SELECT true $$;
