-- Corrections and imported sessions of trading calendars, shared by the feature store and the drift monitor.

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

-- name: has_imported
-- Has this database a table of imported sessions?
SELECT to_regclass('mlops.imported_sessions') IS NOT NULL;

-- name: imported
-- Which sessions of a calendar were imported, and when do they open and close?
SELECT sessions, base, zone, opens, closes FROM mlops.imported_sessions
WHERE calendar = %(calendar)s;

-- name: serialize_imports
-- Wait until no other transaction imports sessions of this calendar.
SELECT pg_advisory_xact_lock(hashtextextended('mlops imported sessions ' || %(calendar)s, 0));

-- name: save_imported
-- Replace the imported sessions of a calendar.
INSERT INTO mlops.imported_sessions (calendar, sessions, base, zone, opens, closes)
VALUES (%(calendar)s, %(sessions)s, %(base)s, %(zone)s, %(opens)s, %(closes)s)
ON CONFLICT (calendar) DO UPDATE SET
    sessions = excluded.sessions, base = excluded.base, zone = excluded.zone, opens = excluded.opens,
    closes = excluded.closes, imported_at = clock_timestamp();

-- name: sessions_in_use
-- Which of these sessions have inputs or results of strategies on this calendar, and which ones?
SELECT removed.session, strategy.strategy_id, string_agg(DISTINCT kind, ', ' ORDER BY kind) AS kinds
FROM mlops.drift_strategies AS strategy
CROSS JOIN unnest(%(sessions)s::date[]) AS removed (session)
CROSS JOIN LATERAL (
    SELECT 'predictions' AS kind FROM mlops.drift_signals AS signal
    WHERE signal.strategy_id = strategy.strategy_id AND EXISTS (
        SELECT FROM mlops.drift_prediction_points AS point
        WHERE point.signal_id = signal.signal_id AND point.session = removed.session)
    UNION ALL
    SELECT 'returns' WHERE EXISTS (
        SELECT FROM mlops.drift_return_points AS point
        WHERE point.strategy_id = strategy.strategy_id AND point.session = removed.session)
    UNION ALL
    SELECT 'strategy returns' WHERE EXISTS (
        SELECT FROM mlops.drift_strategy_returns AS point
        WHERE point.strategy_id = strategy.strategy_id AND point.session = removed.session)
    UNION ALL
    SELECT 'results' WHERE EXISTS (
        SELECT FROM mlops.drift_runs AS run
        WHERE run.strategy_id = strategy.strategy_id AND run.session = removed.session)
    UNION ALL
    SELECT 'served predictions' FROM mlops.drift_signals AS signal
    WHERE signal.strategy_id = strategy.strategy_id AND EXISTS (
        SELECT FROM mlops.served_blocks AS block
        WHERE block.signal_id = signal.signal_id AND block.session = removed.session)
) AS used
WHERE strategy.calendar = %(calendar)s
GROUP BY removed.session, strategy.strategy_id
ORDER BY removed.session, strategy.strategy_id;

-- name: has_calendars
-- Has this database strategies and feature views?
SELECT to_regclass('mlops.drift_strategies') IS NOT NULL AND to_regclass('mlops.feature_views') IS NOT NULL;

-- name: calendars_in_use
-- Which calendars do strategies and feature views count by?
SELECT calendar, array_agg(name ORDER BY name) AS names
FROM (
    SELECT calendar, 'strategy ' || strategy_id AS name FROM mlops.drift_strategies
    UNION
    SELECT to_jsonb(feature_view) ->> 'calendar', 'view ' || name FROM mlops.feature_views AS feature_view
) AS users
WHERE calendar IS NOT NULL
GROUP BY calendar ORDER BY calendar;
