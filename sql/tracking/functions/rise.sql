--! requires: mlflow metrics_rebuild
-- The distance from one step to the next; NULL where 64 bits might not hold it.
CREATE OR REPLACE FUNCTION mlops.rise(from_step bigint, to_step bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN from_step > -4000000000000000000 AND to_step < 4000000000000000000
        THEN to_step - from_step
    END
$$;
