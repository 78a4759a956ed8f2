--! requires: mlflow metrics_rebuild
-- Refuse changes of runs that would leave points without a run, as a foreign key would.
CREATE OR REPLACE FUNCTION mlops.keep_points() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' AND EXISTS (SELECT FROM "@mlflow".metrics) OR TG_TABLE_NAME <> 'runs' THEN
        RAISE foreign_key_violation USING
            MESSAGE = format('the runs of points in table "metrics" do not change (%s)', TG_OP),
            TABLE = 'metrics', CONSTRAINT = 'metrics_run_uuid_fkey';
    ELSIF TG_OP = 'UPDATE' THEN
        PERFORM mlops.refuse_orphans(OLD.run_uuid);
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER mlops_keep_points_renamed AFTER UPDATE OF run_uuid ON "@mlflow".runs
    FOR EACH ROW WHEN (NEW.run_uuid <> OLD.run_uuid) EXECUTE FUNCTION mlops.keep_points();

CREATE OR REPLACE TRIGGER mlops_keep_points_truncated AFTER TRUNCATE ON "@mlflow".runs
    FOR EACH STATEMENT EXECUTE FUNCTION mlops.keep_points();

CREATE OR REPLACE TRIGGER mlops_keep_points_moved AFTER UPDATE OF run_uuid ON "@mlflow".metrics
    FOR EACH ROW WHEN (NEW.run_uuid <> OLD.run_uuid) EXECUTE FUNCTION mlops.keep_points();
