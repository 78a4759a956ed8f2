--! requires: mlflow metrics_rebuild
-- Refuse to delete a run that has points, as a foreign key does.
CREATE OR REPLACE FUNCTION mlops.refuse_orphans(run text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    known mlops.run_ranges;
BEGIN
    SELECT * INTO known FROM mlops.run_ranges WHERE run_uuid = run;
    IF EXISTS (
        SELECT FROM "@mlflow".metrics
        WHERE run_uuid = run AND "timestamp" BETWEEN known.first_ms AND known.last_ms
    ) THEN
        RAISE foreign_key_violation USING
            MESSAGE = 'update or delete on table "runs" violates foreign key constraint "metrics_run_uuid_fkey" on table "metrics"',
            DETAIL = format('Key (run_uuid)=(%s) is still referenced from table "metrics".', run),
            TABLE = 'metrics', CONSTRAINT = 'metrics_run_uuid_fkey';
    END IF;
END
$$;
