--! requires: mlflow
-- A time from text. A naive time is in UTC; text that is no time is NULL, and does not fail the
-- query.
CREATE OR REPLACE FUNCTION mlops.utc_time(given text) RETURNS timestamptz
LANGUAGE plpgsql STABLE STRICT SET timezone = 'UTC' AS $$
BEGIN
    RETURN CASE WHEN given ~ '^\d{4}-\d\d-\d\d' THEN given::timestamptz END;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;
