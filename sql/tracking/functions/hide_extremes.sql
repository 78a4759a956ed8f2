--! requires: mlflow metrics_rebuild
-- Remove what was generated for runs, and nothing else; return how many metrics that were.
CREATE OR REPLACE FUNCTION mlops.hide_extremes(runs text[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    removed bigint;
BEGIN
    PERFORM FROM mlops.run_ranges WHERE run_uuid = ANY (runs) ORDER BY run_uuid FOR UPDATE;
    WITH gone AS (
        DELETE FROM mlops.generated_metrics AS generated
        WHERE generated.run_uuid = ANY (runs)
        RETURNING generated.run_uuid, generated.key
    )
    DELETE FROM "@mlflow".latest_metrics AS latest
    USING gone
    WHERE latest.run_uuid = gone.run_uuid AND latest.key = gone.key;
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END
$$;
