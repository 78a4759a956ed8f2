--! requires: mlflow
-- TRUNCATE fires no trigger for rows: end every state of the tags.
CREATE OR REPLACE FUNCTION mlops.end_tag_history() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, mlops, pg_temp AS $$
BEGIN
    PERFORM mlops.tag_change(
        open.run_id, open.key, false, NULL, 'deleted',
        coalesce(nullif(current_setting('mlops.reason', true), ''), 'TRUNCATE'))
    FROM mlops.run_tag_history AS open WHERE open.valid_to IS NULL;
    RETURN NULL;
END $$;
-- A trigger on a table of one's own would write false history.
REVOKE ALL ON FUNCTION mlops.end_tag_history() FROM PUBLIC;

CREATE OR REPLACE TRIGGER mlops_truncate AFTER TRUNCATE ON "@mlflow".tags
    FOR EACH STATEMENT EXECUTE FUNCTION mlops.end_tag_history();
