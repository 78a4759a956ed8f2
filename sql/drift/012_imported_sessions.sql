-- Sessions of a trading calendar that were imported from a file, such as qlib's calendars/day.txt. They
-- count between the first and the last of them, instead of what is published or assumed.
-- Clients of this revision and older ones work side by side: an older one does not see imported
-- sessions, and counts the published and assumed ones.
CREATE TABLE mlops.imported_sessions (
    -- The MIC of an exchange, or own:NAME.
    calendar text PRIMARY KEY,
    sessions date[] NOT NULL CHECK (cardinality(sessions) > 0),
    -- Whose hours they have, and whose sessions come after the last of them.
    base text NOT NULL,
    -- Other hours than those of the base, by the clock of a zone.
    zone text,
    opens time,
    closes time,
    imported_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    db_user text NOT NULL DEFAULT session_user,
    CHECK (num_nulls(zone, opens, closes) IN (0, 3))
);
COMMENT ON TABLE mlops.imported_sessions IS
    'Sessions of trading calendars that were imported from files.';
