--! requires: mlflow
-- The trigger of all five registry tables; its argument is the kind of history. Rows are read as
-- JSON, so that MLflow's own migrations can add, drop and alter columns. SECURITY DEFINER: a role
-- that may move an alias must not be able to do it without a trace.
CREATE OR REPLACE FUNCTION mlops.keep_registry_history() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, mlops, pg_temp AS $$
DECLARE
    kind text := TG_ARGV[0];
    was jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    now_is jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    was_subject text := mlops.registry_subject(kind, was);
    now_subject text := mlops.registry_subject(kind, now_is);
    was_name text := CASE WHEN was_subject IS NOT NULL THEN was ->> 'name' END;
    now_name text := CASE WHEN now_subject IS NOT NULL THEN now_is ->> 'name' END;
    was_workspace text := CASE
        WHEN was_subject IS NOT NULL THEN coalesce(was ->> 'workspace', 'default') END;
    now_workspace text := CASE
        WHEN now_subject IS NOT NULL THEN coalesce(now_is ->> 'workspace', 'default') END;
BEGIN
    IF was_subject IS NULL AND now_subject IS NULL
        OR (was_workspace, was_name, was_subject, mlops.registry_value(kind, was),
            mlops.registry_detail(kind, was))
            IS NOT DISTINCT FROM
            (now_workspace, now_name, now_subject, mlops.registry_value(kind, now_is),
            mlops.registry_detail(kind, now_is)) THEN
        RETURN NULL;
    END IF;
    PERFORM mlops.registry_change(
        kind, was_workspace, was_name, was_subject, now_workspace, now_name, now_subject,
        (coalesce(now_is, was) ->> 'version')::integer,
        mlops.registry_value(kind, now_is), mlops.registry_detail(kind, now_is));
    RETURN NULL;
END $$;
-- A trigger on a table of one's own would write false history.
REVOKE ALL ON FUNCTION mlops.keep_registry_history() FROM PUBLIC;

CREATE OR REPLACE TRIGGER mlops_history AFTER INSERT OR UPDATE OR DELETE ON "@mlflow".registered_model_aliases
    FOR EACH ROW EXECUTE FUNCTION mlops.keep_registry_history('alias');

CREATE OR REPLACE TRIGGER mlops_history_version AFTER INSERT OR UPDATE OR DELETE ON "@mlflow".model_versions
    FOR EACH ROW EXECUTE FUNCTION mlops.keep_registry_history('version');

CREATE OR REPLACE TRIGGER mlops_history_stage AFTER INSERT OR UPDATE OR DELETE ON "@mlflow".model_versions
    FOR EACH ROW EXECUTE FUNCTION mlops.keep_registry_history('stage');

CREATE OR REPLACE TRIGGER mlops_history AFTER INSERT OR UPDATE OR DELETE ON "@mlflow".model_version_tags
    FOR EACH ROW EXECUTE FUNCTION mlops.keep_registry_history('tag');

CREATE OR REPLACE TRIGGER mlops_history AFTER INSERT OR UPDATE OR DELETE ON "@mlflow".registered_models
    FOR EACH ROW EXECUTE FUNCTION mlops.keep_registry_history('model');
