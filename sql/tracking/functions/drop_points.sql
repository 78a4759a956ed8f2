--! requires: mlflow metrics_rebuild
-- Remove the points before a time, and return how many runs had any. Latest metrics stay, so
-- lists of runs look as before. A hypertable drops whole chunks at once; only the chunk that
-- contains the time is deleted from row by row.
CREATE OR REPLACE FUNCTION mlops.drop_points(before_ms bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    touched text[];
BEGIN
    SELECT array_agg(run_uuid) INTO touched FROM mlops.run_ranges WHERE first_ms < before_ms;
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        PERFORM drop_chunks('"@mlflow".metrics', older_than => before_ms);
    END IF;
    DELETE FROM "@mlflow".metrics WHERE "timestamp" < before_ms;
    PERFORM mlops.mark_run(run) FROM unnest(touched) AS run;
    RETURN coalesce(cardinality(touched), 0);
END
$$;
