--! requires: mlflow
-- Refuse changes of the ledger that would change what a registered version consists of: other bytes
-- or a new file at its place, a deletion, an edited row. With mlops.override = 'true' the change
-- becomes part of the version, and the registry's history records who made it, and why.
-- SQLSTATE ML409: our stores raise it as a conflict.
CREATE OR REPLACE FUNCTION mlops.freeze_version_files() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, mlops, pg_temp AS $$
DECLARE
    overridden boolean := coalesce(current_setting('mlops.override', true), '') = 'true';
    change text := CASE
        WHEN TG_OP = 'INSERT' AND NEW.ended_at IS NULL THEN 'logged with other bytes'
        WHEN TG_OP = 'DELETE' AND OLD.ended_at IS NULL THEN 'taken out of the ledger'
        WHEN TG_OP <> 'UPDATE' OR OLD.ended_at IS NOT NULL THEN NULL
        WHEN NEW.ended = 'deleted' THEN 'deleted'
        WHEN (NEW.checksum, NEW.location) <> (OLD.checksum, OLD.location) THEN 'edited'
    END;
    changed mlops.model_artifacts := CASE WHEN TG_OP = 'INSERT' THEN NEW ELSE OLD END;
    clash record;
BEGIN
    IF change IS NULL THEN
        RETURN NULL;
    END IF;
    FOR clash IN
        SELECT version.workspace, version.name, version.version, version.place
        FROM (
            SELECT DISTINCT f.workspace, f.name, f.version, f.place FROM mlops.version_files AS f
            WHERE f.place = ANY (mlops.places_above(changed.location))
        ) AS version
        LEFT JOIN mlops.version_files AS frozen
            ON (frozen.workspace, frozen.name, frozen.version, frozen.location)
                = (version.workspace, version.name, version.version, changed.location)
        WHERE CASE WHEN TG_OP = 'INSERT' THEN frozen.checksum IS DISTINCT FROM changed.checksum
            ELSE frozen.location IS NOT NULL END
    LOOP
        IF NOT overridden THEN
            RAISE EXCEPTION 'artifact % belongs to version %/%, so it cannot be %',
                changed.location, clash.name, clash.version, change
                USING ERRCODE = 'ML409',
                    HINT = 'Register a new version. To override it on the record: '
                        'mlflow_timescale.because(reason, override=True), or in SQL '
                        'SET mlops.override = ''true'' and SET mlops.reason = ''...''.';
        END IF;
        PERFORM mlops.change_version_file(
            clash.workspace, clash.name, clash.version, clash.place, changed.location,
            CASE WHEN TG_OP = 'INSERT' THEN changed.checksum END, changed.size_bytes);
    END LOOP;
    RETURN NULL;
END $$;
-- A trigger on a table of one's own would write false history.
REVOKE ALL ON FUNCTION mlops.freeze_version_files() FROM PUBLIC;

CREATE OR REPLACE TRIGGER mlops_freeze AFTER INSERT OR UPDATE OR DELETE ON mlops.model_artifacts
    FOR EACH ROW EXECUTE FUNCTION mlops.freeze_version_files();
