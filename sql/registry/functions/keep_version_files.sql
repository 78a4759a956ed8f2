--! requires: mlflow
-- Freeze the files of a version when it is registered and when it gets a stage or an alias; let the
-- frozen rows follow a renamed model, and end with a deleted version. SECURITY DEFINER: a role that
-- registers versions must not be able to change what is frozen.
CREATE OR REPLACE FUNCTION mlops.keep_version_files() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, mlops, pg_temp AS $$
DECLARE
    was jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    now_is jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
BEGIN
    IF TG_ARGV[0] = 'alias' THEN
        PERFORM mlops.register_files(
            place.workspace, place.name, place.version, place.place, place.run_id)
        FROM mlops.mlflow_version_places() AS place
        WHERE place.workspace = coalesce(now_is ->> 'workspace', 'default')
            AND place.name = now_is ->> 'name'
            AND place.version = (now_is ->> 'version')::integer;
        RETURN NULL;
    END IF;
    IF now_is IS NULL OR now_is ->> 'current_stage' = 'Deleted_Internal' THEN
        DELETE FROM mlops.version_files AS frozen
        WHERE frozen.workspace = coalesce(was ->> 'workspace', 'default')
            AND frozen.name = was ->> 'name'
            AND frozen.version = (was ->> 'version')::integer;
        RETURN NULL;
    END IF;
    UPDATE mlops.version_files AS frozen
    SET workspace = coalesce(now_is ->> 'workspace', 'default'), name = now_is ->> 'name',
        version = (now_is ->> 'version')::integer
    WHERE frozen.workspace = coalesce(was ->> 'workspace', 'default')
        AND frozen.name = was ->> 'name'
        AND frozen.version = (was ->> 'version')::integer
        AND (was ->> 'workspace', was ->> 'name', was ->> 'version')
            IS DISTINCT FROM (now_is ->> 'workspace', now_is ->> 'name', now_is ->> 'version');
    IF TG_OP = 'INSERT' OR was ->> 'current_stage' IS DISTINCT FROM now_is ->> 'current_stage' THEN
        PERFORM mlops.register_files(
            coalesce(now_is ->> 'workspace', 'default'), now_is ->> 'name',
            (now_is ->> 'version')::integer,
            coalesce(nullif(now_is ->> 'storage_location', ''), now_is ->> 'source'),
            now_is ->> 'run_id');
    END IF;
    RETURN NULL;
END $$;
-- A trigger on a table of one's own would write false history.
REVOKE ALL ON FUNCTION mlops.keep_version_files() FROM PUBLIC;

-- Before the triggers of the history, by name: it records the checksum of what is frozen.
CREATE OR REPLACE TRIGGER mlops_files AFTER INSERT OR UPDATE OR DELETE ON "@mlflow".model_versions
    FOR EACH ROW EXECUTE FUNCTION mlops.keep_version_files('version');

CREATE OR REPLACE TRIGGER mlops_files AFTER INSERT OR UPDATE ON "@mlflow".registered_model_aliases
    FOR EACH ROW EXECUTE FUNCTION mlops.keep_version_files('alias');
