--! requires: mlflow
-- TRUNCATE fires no trigger for rows: end every state of the tables that were emptied.
CREATE OR REPLACE FUNCTION mlops.end_registry_history() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, mlops, pg_temp AS $$
BEGIN
    UPDATE mlops.registry_history SET
        valid_to = greatest(clock_timestamp(), valid_from + interval '1 microsecond'),
        ended = 'deleted', ended_db_user = session_user,
        ended_mlflow_user = nullif(current_setting('mlops.user', true), ''),
        ended_authenticated_user = nullif(current_setting('mlops.authenticated_user', true), ''),
        ended_claimed_user = nullif(current_setting('mlops.claimed_user', true), ''),
        ended_reason = coalesce(nullif(current_setting('mlops.reason', true), ''), 'TRUNCATE')
    WHERE valid_to IS NULL AND kind = ANY (TG_ARGV[0:]);
    IF 'version' = ANY (TG_ARGV[0:]) THEN
        DELETE FROM mlops.version_files;
    END IF;
    RETURN NULL;
END $$;
-- A trigger on a table of one's own would write false history.
REVOKE ALL ON FUNCTION mlops.end_registry_history() FROM PUBLIC;

CREATE OR REPLACE TRIGGER mlops_truncate AFTER TRUNCATE ON "@mlflow".registered_model_aliases
    FOR EACH STATEMENT EXECUTE FUNCTION mlops.end_registry_history('alias');

CREATE OR REPLACE TRIGGER mlops_truncate AFTER TRUNCATE ON "@mlflow".model_versions
    FOR EACH STATEMENT EXECUTE FUNCTION mlops.end_registry_history('version', 'stage');

CREATE OR REPLACE TRIGGER mlops_truncate AFTER TRUNCATE ON "@mlflow".model_version_tags
    FOR EACH STATEMENT EXECUTE FUNCTION mlops.end_registry_history('tag');

CREATE OR REPLACE TRIGGER mlops_truncate AFTER TRUNCATE ON "@mlflow".registered_models
    FOR EACH STATEMENT EXECUTE FUNCTION mlops.end_registry_history('model');
