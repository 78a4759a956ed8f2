--! requires: mlflow
-- End the current state of a tag and begin the next one, if there is one. The times of one tag only
-- increase, even when the clock is set back, and one state ends exactly where the next begins.
CREATE OR REPLACE FUNCTION mlops.tag_change(
    of_run text, of_key text, is_set boolean, new_value text, ending text, because text
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    newest mlops.run_tag_history;
    authenticated text := nullif(current_setting('mlops.authenticated_user', true), '');
    claimed text := nullif(current_setting('mlops.claimed_user', true), '');
    stated text := coalesce(because, nullif(current_setting('mlops.reason', true), ''));
BEGIN
    SELECT * INTO newest FROM mlops.run_tag_history AS h
    WHERE h.run_id = of_run AND h.key = of_key ORDER BY h.valid_from DESC LIMIT 1;
    moment := greatest(
        moment, newest.valid_to, newest.valid_from + interval '1 microsecond');
    UPDATE mlops.run_tag_history AS h SET
        valid_to = moment, ended = ending, ended_db_user = session_user, ended_reason = stated,
        ended_authenticated_user = authenticated, ended_claimed_user = claimed
    WHERE h.run_id = of_run AND h.key = of_key AND h.valid_to IS NULL;
    IF is_set THEN
        INSERT INTO mlops.run_tag_history
            (run_id, experiment_id, key, value, valid_from, reason, authenticated_user, claimed_user)
        VALUES (
            of_run, (SELECT experiment_id FROM "@mlflow".runs WHERE run_uuid = of_run),
            of_key, new_value, moment, stated, authenticated, claimed);
    END IF;
END $$;
-- It writes history, which only the triggers may do.
REVOKE ALL ON FUNCTION mlops.tag_change(text, text, boolean, text, text, text) FROM PUBLIC;
