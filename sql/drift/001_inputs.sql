--! replaces: base/0401_drift_inputs
-- Inputs of the drift monitor: predictions, realized returns, strategy returns.
-- Keys are integers in tables that grow by names x signals x sessions: a text key would take most of
-- a row. The view mlops.drift_predictions has the names.

CREATE TABLE mlops.drift_strategies (
    strategy_id text PRIMARY KEY,
    calendar text NOT NULL,
    -- The step of a session in MLflow is its number, counted from this session.
    first_session date,
    settings jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE mlops.drift_calendar_overrides (
    calendar text NOT NULL,
    session date NOT NULL,
    is_session boolean NOT NULL,
    close_time timestamptz,
    why text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (calendar, session)
);

CREATE TABLE mlops.drift_entities (
    entity_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entity_key text NOT NULL UNIQUE
);

CREATE TABLE mlops.drift_signals (
    signal_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    strategy_id text NOT NULL,
    signal_name text NOT NULL,
    horizon integer NOT NULL CHECK (horizon >= 1),
    model_name text NOT NULL,
    model_version text NOT NULL,
    UNIQUE (strategy_id, signal_name, horizon, model_name, model_version)
);

CREATE TABLE mlops.drift_prediction_points (
    signal_id integer NOT NULL,
    session date NOT NULL,
    entity_id integer NOT NULL,
    signal_time timestamptz NOT NULL,
    signal double precision NOT NULL,
    entity_group text,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (signal_id, session, entity_id, signal_time)
);

-- A revised return is a new row with a later known_at; the latest one counts.
CREATE TABLE mlops.drift_return_points (
    strategy_id text NOT NULL,
    session date NOT NULL,
    horizon integer NOT NULL CHECK (horizon >= 1),
    entity_id integer NOT NULL,
    known_at timestamptz NOT NULL,
    value double precision NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (strategy_id, session, horizon, entity_id, known_at)
);

CREATE TABLE mlops.drift_strategy_returns (
    strategy_id text NOT NULL,
    session date NOT NULL,
    known_at timestamptz NOT NULL,
    value double precision NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (strategy_id, session, known_at)
);
