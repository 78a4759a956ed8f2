--! requires: mlflow metrics_rebuild
-- Refuse to delete runs that have points, and remove the marks of deleted runs.
CREATE OR REPLACE FUNCTION mlops.forget_deleted_runs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- An older snapshot would miss points that were written since.
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE feature_not_supported USING
            MESSAGE = 'runs are deleted in READ COMMITTED transactions only';
    END IF;
    PERFORM mlops.refuse_orphans(run_uuid) FROM gone;
    DELETE FROM mlops.metric_marks WHERE run_uuid IN (SELECT run_uuid FROM gone);
    DELETE FROM mlops.generated_metrics WHERE run_uuid IN (SELECT run_uuid FROM gone);
    DELETE FROM mlops.run_ranges WHERE run_uuid IN (SELECT run_uuid FROM gone);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER mlops_forget_deleted_runs AFTER DELETE ON "@mlflow".runs
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION mlops.forget_deleted_runs();
