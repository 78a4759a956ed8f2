--! requires: mlflow
-- The trigger of MLflow's table of run tags; mlops.watch_tags makes it fire for the kept keys only. Rows
-- are read as JSON, so that MLflow's own migrations can add, drop and alter columns. SECURITY DEFINER: a
-- role that may set a tag must not be able to do it without a trace.
CREATE OR REPLACE FUNCTION mlops.keep_tag_history() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, mlops, pg_temp AS $$
DECLARE
    was jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    now_is jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    same boolean := (was ->> 'run_uuid', was ->> 'key') IS NOT DISTINCT FROM
        (now_is ->> 'run_uuid', now_is ->> 'key');
BEGIN
    IF same AND was ->> 'value' IS NOT DISTINCT FROM now_is ->> 'value' THEN
        RETURN NULL;
    END IF;
    IF was IS NOT NULL AND NOT same THEN
        PERFORM mlops.tag_change(was ->> 'run_uuid', was ->> 'key', false, NULL, 'deleted', NULL);
    END IF;
    IF now_is IS NOT NULL AND EXISTS (
        SELECT FROM mlops.kept_tags AS kept
        WHERE kept.key = now_is ->> 'key' AND kept.kept_to IS NULL
    ) THEN
        PERFORM mlops.tag_change(
            now_is ->> 'run_uuid', now_is ->> 'key', true, now_is ->> 'value', 'changed', NULL);
    END IF;
    RETURN NULL;
END $$;
-- A trigger on a table of one's own would write false history.
REVOKE ALL ON FUNCTION mlops.keep_tag_history() FROM PUBLIC;
