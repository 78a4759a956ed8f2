--! requires: mlflow
-- The registry in the words of whoever asks with SQL: mlops.models, mlops.model_metrics and
-- mlops.model_training_runs. Nothing is stored twice.
--
-- Each view stands over a function with a string body: PostgreSQL records no dependency on MLflow's
-- tables, so MLflow's own migrations may alter them, and yet inlines the function, so that a filter
-- on a view reaches their indexes. "@mlflow" is replaced by the schema in which they are found now:
-- a trading database may well have tables named runs, metrics or tags of its own.

-- A naive time is in UTC; what is no time at all is NULL, and does not fail the whole query.
CREATE OR REPLACE FUNCTION mlops.utc_time(given text) RETURNS timestamptz
LANGUAGE plpgsql STABLE STRICT SET timezone = 'UTC' AS $$
BEGIN
    RETURN CASE WHEN given ~ '^\d{4}-\d\d-\d\d' THEN given::timestamptz END;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;
