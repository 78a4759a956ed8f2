--! requires: mlflow
-- End the current state of a subject and begin the next one; a state that does not change is not
-- touched. The times of one subject only increase, even when the clock is set back, and one state
-- ends exactly where the next begins.
CREATE OR REPLACE FUNCTION mlops.registry_change(
    kind_of text, was_workspace text, was_name text, was_subject text,
    now_workspace text, now_name text, now_subject text,
    of_version integer, new_value text, new_detail jsonb
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    last_moment timestamptz;
    by_user text := nullif(current_setting('mlops.user', true), '');
    authenticated text := nullif(current_setting('mlops.authenticated_user', true), '');
    claimed text := nullif(current_setting('mlops.claimed_user', true), '');
    because text := nullif(current_setting('mlops.reason', true), '');
BEGIN
    SELECT max(latest) INTO last_moment FROM (
        SELECT coalesce(valid_to, valid_from + interval '1 microsecond') AS latest
        FROM unnest(
            ARRAY[was_workspace, now_workspace], ARRAY[was_name, now_name],
            ARRAY[was_subject, now_subject]) AS thing (w, n, s)
        CROSS JOIN LATERAL (
            SELECT h.valid_from, h.valid_to FROM mlops.registry_history AS h
            WHERE h.workspace = thing.w AND h.name = thing.n AND h.kind = kind_of
                AND h.subject = thing.s
            ORDER BY h.valid_from DESC LIMIT 1) AS newest
    ) AS both_things;
    moment := greatest(moment, last_moment);
    UPDATE mlops.registry_history AS h SET
        valid_to = moment,
        ended = CASE
            WHEN now_name IS NULL THEN 'deleted'
            WHEN (now_workspace, now_name, now_subject) IS DISTINCT FROM
                (h.workspace, h.name, h.subject) THEN 'renamed'
            ELSE 'changed' END,
        ended_db_user = session_user, ended_mlflow_user = by_user, ended_reason = because,
        ended_authenticated_user = authenticated, ended_claimed_user = claimed
    WHERE h.kind = kind_of AND h.valid_to IS NULL
        AND (h.workspace = was_workspace AND h.name = was_name AND h.subject = was_subject
            OR h.workspace = now_workspace AND h.name = now_name AND h.subject = now_subject);
    IF now_name IS NOT NULL THEN
        INSERT INTO mlops.registry_history
            (workspace, name, kind, subject, version, value, detail, valid_from, mlflow_user, reason,
            authenticated_user, claimed_user)
        VALUES (
            now_workspace, now_name, kind_of, now_subject, of_version, new_value,
            coalesce(new_detail, '{}') || jsonb_strip_nulls(jsonb_build_object(
                'renamed_from', CASE WHEN was_name <> now_name THEN was_name END,
                'workspace_from', CASE WHEN was_workspace <> now_workspace THEN was_workspace END,
                'override', CASE
                    WHEN current_setting('mlops.override', true) = 'true' THEN true END)),
            moment, by_user, because, authenticated, claimed);
    END IF;
END $$;
