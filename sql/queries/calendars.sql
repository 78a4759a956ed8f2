-- Corrections of trading calendars, shared by the feature store and the drift monitor.

-- name: overrides
-- Where is the published calendar wrong?
SELECT session, is_session, close_time, why FROM mlops.drift_calendar_overrides
WHERE calendar = %(calendar)s ORDER BY session;

-- name: add_override
-- Record that the published calendar is wrong on a day.
INSERT INTO mlops.drift_calendar_overrides (calendar, session, is_session, close_time, why)
VALUES (%(calendar)s, %(session)s, %(is_session)s, %(close_time)s, %(why)s)
ON CONFLICT (calendar, session) DO UPDATE SET
    is_session = excluded.is_session, close_time = excluded.close_time, why = excluded.why,
    recorded_at = clock_timestamp();
