--! requires: mlflow
-- Keep a history of a tag from now on, or no longer; false if that is so already.
CREATE OR REPLACE FUNCTION mlops.keep_tag(of_key text, kept boolean) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    -- No tag is set between the change of the setting and that of the triggers.
    LOCK TABLE "@mlflow".tags IN SHARE ROW EXCLUSIVE MODE;
    IF kept = EXISTS (SELECT FROM mlops.kept_tags WHERE key = of_key AND kept_to IS NULL) THEN
        RETURN false;
    END IF;
    IF kept THEN
        INSERT INTO mlops.kept_tags (key) VALUES (of_key);
        PERFORM mlops.begin_tag_history('the history begins here');
    ELSE
        PERFORM mlops.tag_change(run_id, key, false, NULL, 'not kept', NULL)
        FROM mlops.run_tag_history WHERE key = of_key AND valid_to IS NULL;
        UPDATE mlops.kept_tags
        SET kept_to = greatest(clock_timestamp(), kept_from + interval '1 microsecond')
        WHERE key = of_key AND kept_to IS NULL;
    END IF;
    PERFORM mlops.watch_tags();
    RETURN true;
END $$;
REVOKE ALL ON FUNCTION mlops.keep_tag(text, boolean) FROM PUBLIC;
