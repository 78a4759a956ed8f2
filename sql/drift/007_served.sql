-- What live code served: the features, model and output of every prediction.
--
-- mlops.drift_prediction_points stays the record that the monitor judges, and stays as it is, so that
-- landed data needs no move. Each served prediction has its row there, written in the same
-- transaction; mlops.served_blocks holds what stands behind it. A session of 3,000 names is a few rows
-- of arrays: a row for each prediction would take twice the space.
-- Clients of this revision and older ones work side by side. Older monitors read the predictions of
-- newer recorders; one that computes a session in the moment in which its predictions arrive may miss
-- these until the session is computed again.

-- Which features, in which versions (0: not known), a block of values holds.
CREATE TABLE mlops.served_feature_sets (
    feature_set_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    content uuid NOT NULL UNIQUE,
    feature_names text[] NOT NULL,
    feature_versions integer[] NOT NULL,
    -- Read from the feature store of this database, or given by the caller.
    source text NOT NULL CHECK (source IN ('store', 'caller')),
    -- How the store was read: the arguments of `get_latest`, as text.
    reading jsonb NOT NULL DEFAULT '{}'
);

-- What ran: the model's files, the code, and the packages.
CREATE TABLE mlops.served_origins (
    origin_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    content uuid NOT NULL UNIQUE,
    -- As the caller named it, such as models:/momentum@champion; null for a model of the caller's.
    model_uri text,
    -- SHA-256 of the model's files, as in mlops.version_checksums.
    checksum text,
    code_version text,
    environment jsonb NOT NULL DEFAULT '{}',
    first_seen timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Predictions of one model at one decision time, for several entities: n entities, m features.
CREATE TABLE mlops.served_blocks (
    session date NOT NULL,
    signal_id integer NOT NULL,
    feature_set_id integer NOT NULL,
    origin_id integer NOT NULL,
    -- The number of the block within its request.
    block integer NOT NULL,
    -- From the call to the output, in milliseconds.
    latency_ms real,
    -- The two clocks: when the decision was made, and when this row was written.
    as_of timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    request_id text NOT NULL,
    -- n, increasing; the names are in mlops.drift_entities.
    entities integer[] NOT NULL,
    -- n; infinities and NaN as the model returned them. The judged record holds NaN for infinities.
    outputs double precision[] NOT NULL,
    -- n * m, entity by entity. NaN is a value; a cell in `absent` had none, one in `others` another kind.
    "values" double precision[] NOT NULL,
    -- The cells, counted from 0, that had no value, where there are any.
    absent integer[],
    -- Texts and structures, by cell.
    others jsonb,
    -- The distinct event times, and for each cell the position in them, counted from 1; 0 where the
    -- time is not known. Without positions, every cell has the one event time. Null where none is known.
    event_times timestamptz[],
    event_positions integer[]
);
CREATE INDEX served_blocks_of_signal ON mlops.served_blocks (signal_id, session, as_of);

-- What retention removed: a question about such a session gets this answer.
CREATE TABLE mlops.served_removals (
    removal_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Sessions before this date.
    before date NOT NULL,
    predictions bigint NOT NULL,
    removed_by text NOT NULL DEFAULT session_user,
    removed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
