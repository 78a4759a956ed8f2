--! requires: mlflow
-- Make the triggers of the kept tags. Their conditions hold the keys, so that other tags cost no call of
-- a function. They read the whole row: a condition on a column would forbid MLflow's migrations to alter
-- it.
CREATE OR REPLACE FUNCTION mlops.watch_tags() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    keys text[] := ARRAY(SELECT key FROM mlops.kept_tags WHERE kept_to IS NULL ORDER BY key);
    event record;
BEGIN
    FOR event IN
        SELECT * FROM (VALUES
            ('mlops_tag_set', 'INSERT', 'NEW'), ('mlops_tag_change', 'UPDATE', 'OLD'),
            ('mlops_tag_change_to', 'UPDATE', 'NEW'), ('mlops_tag_delete', 'DELETE', 'OLD')
        ) AS events (trigger_name, operation, state)
    LOOP
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER %I AFTER %s ON "@mlflow".tags FOR EACH ROW '
            'WHEN (to_jsonb(%s) ->> ''key'' = ANY (%L::text[]) %s) '
            'EXECUTE FUNCTION mlops.keep_tag_history()',
            event.trigger_name, event.operation, event.state, keys,
            CASE event.trigger_name WHEN 'mlops_tag_change_to' THEN
                'AND to_jsonb(OLD) ->> ''key'' <> to_jsonb(NEW) ->> ''key''' ELSE '' END);
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION mlops.watch_tags() FROM PUBLIC;

SELECT mlops.watch_tags();
SELECT mlops.begin_tag_history('the history begins here');
