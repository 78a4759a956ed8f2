--! requires: mlflow
-- The value of a stored metric. MLflow stores NaN as a flag beside 0, and the infinities as the
-- largest finite numbers.
CREATE OR REPLACE FUNCTION mlops.metric_value(stored double precision, is_nan boolean)
RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN is_nan THEN 'NaN'::double precision
        WHEN stored >= 1.7976931348623157e308 THEN 'Infinity'::double precision
        WHEN stored <= -1.7976931348623157e308 THEN '-Infinity'::double precision
        ELSE stored
    END;
$$;
