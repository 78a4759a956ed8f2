-- When an entity is part of a universe: listed, a member of an index, traded by a strategy. Intervals
-- are half-open: at valid_to an entity is no longer part of it. Older clients do not read the table.
CREATE TABLE mlops.feature_universes (
    universe text COLLATE "C" NOT NULL CHECK (universe <> ''),
    entity_key text COLLATE "C" NOT NULL CHECK (entity_key <> ''),
    valid_from timestamptz NOT NULL,
    valid_to timestamptz CHECK (valid_to > valid_from),
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    recorded_by text NOT NULL DEFAULT session_user,
    PRIMARY KEY (universe, entity_key, valid_from)
);
COMMENT ON TABLE mlops.feature_universes IS
    'In which intervals an entity is part of a universe; valid_to is NULL while it is.';
