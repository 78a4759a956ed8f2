--! requires: mlflow metrics_rebuild
-- Rebuild the marks of one run: for points from before the trigger, or after points were removed.
CREATE OR REPLACE FUNCTION mlops.mark_run(run text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    known mlops.run_ranges;
    written date;
BEGIN
    DELETE FROM mlops.metric_marks WHERE run_uuid = run;
    DELETE FROM mlops.run_ranges WHERE run_uuid = run RETURNING written_on INTO written;
    INSERT INTO mlops.run_ranges (run_uuid, first_ms, last_ms, written_on)
    SELECT run, min("timestamp") & -134217728, max("timestamp") | 134217727, written
    FROM "@mlflow".metrics
    WHERE run_uuid = run
    HAVING count(*) > 0
    RETURNING * INTO known;
    PERFORM mlops.extend_marks(
        run, array_agg(series.key::text), array_agg(series.points), known.first_ms, known.last_ms
    )
    FROM (SELECT key, count(*) AS points FROM "@mlflow".metrics WHERE run_uuid = run GROUP BY key) AS series
    HAVING count(*) > 0;
END
$$;
