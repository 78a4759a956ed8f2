--! requires: mlflow metrics_rebuild
-- Does a trigger on metrics see every point of these times? (The Community edition has another answer.)
CREATE OR REPLACE FUNCTION mlops.sees_every_point(first_ms bigint, last_ms bigint) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$ SELECT true $$;
