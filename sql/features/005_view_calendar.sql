-- The calendar by which a view's maximum staleness is counted, and a maximum in sessions, for which
-- an interval has no unit. Clients without these columns register and read views as before, and see
-- no maximum where it is in sessions.
ALTER TABLE mlops.feature_views
    ADD COLUMN calendar text,
    ADD COLUMN max_sessions integer CHECK (max_sessions >= 1),
    ADD CONSTRAINT feature_views_one_staleness
        CHECK (max_staleness IS NULL OR max_sessions IS NULL),
    ADD CONSTRAINT feature_views_sessions_of_a_calendar
        CHECK (max_sessions IS NULL OR calendar IS NOT NULL);
COMMENT ON COLUMN mlops.feature_views.max_sessions IS
    'The maximum staleness in sessions of the calendar, instead of max_staleness.';
