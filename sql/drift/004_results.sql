--! replaces: base/0404_drift_results base/0406_drift_feature_prints
-- Results of the drift monitor: values, references, alerts, and computed sessions.

-- One row per computed session. `revision` counts the computations that changed a value; MLflow has
-- those up to `logged_revision`, so that the next run catches up after an outage.
CREATE TABLE mlops.drift_runs (
    strategy_id text NOT NULL,
    session date NOT NULL,
    revision integer NOT NULL,
    session_number integer NOT NULL,
    status text NOT NULL,
    model_name text NOT NULL DEFAULT '',
    model_version text NOT NULL DEFAULT '',
    as_of timestamptz NOT NULL,
    digest text NOT NULL DEFAULT '',
    computed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    logged_revision integer,
    mlflow_run_id text,
    PRIMARY KEY (strategy_id, session)
);
CREATE INDEX drift_runs_to_log ON mlops.drift_runs (strategy_id, session)
    WHERE logged_revision IS DISTINCT FROM revision;

CREATE TABLE mlops.drift_stale (
    mark_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    strategy_id text NOT NULL,
    session date NOT NULL,
    reason text NOT NULL,
    marked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A value is null where it cannot be computed; `status` is the reason. A recomputation with another
-- result is a new revision; the greatest one counts.
CREATE TABLE mlops.drift_values (
    strategy_id text NOT NULL,
    session date NOT NULL,
    metric text NOT NULL,
    dimension text NOT NULL DEFAULT '',
    revision integer NOT NULL,
    value double precision,
    n integer NOT NULL,
    status text NOT NULL,
    computed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- In the order of a series: a rule reads years of one metric among many features.
    PRIMARY KEY (strategy_id, metric, dimension, session, revision)
);
CREATE INDEX drift_values_of_session ON mlops.drift_values (strategy_id, session);

-- An accepted window. The first one stays as role 'fixed': accepting each new level as normal
-- must not disable the alarm.
CREATE TABLE mlops.drift_references (
    reference_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    strategy_id text NOT NULL,
    role text NOT NULL CHECK (role IN ('accepted', 'fixed')),
    version integer NOT NULL,
    window_start date NOT NULL,
    window_end date NOT NULL,
    ic_mean double precision,
    ic_sd double precision,
    ic_n integer NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    accepted_by text NOT NULL DEFAULT session_user,
    reason text NOT NULL,
    UNIQUE (strategy_id, role, version)
);

CREATE TABLE mlops.drift_reference_distributions (
    reference_id integer NOT NULL REFERENCES mlops.drift_references ON DELETE CASCADE,
    dimension text NOT NULL,
    distribution jsonb NOT NULL,
    PRIMARY KEY (reference_id, dimension)
);

-- The counts of a session's values in the buckets of the reference: a picture, a pooled PSI or a
-- comparison with another reference does not read the features again.
CREATE TABLE mlops.drift_histograms (
    strategy_id text NOT NULL,
    session date NOT NULL,
    reference_id integer NOT NULL,
    dimension text NOT NULL,
    counts integer[] NOT NULL,
    PRIMARY KEY (strategy_id, session, reference_id, dimension)
);

CREATE TABLE mlops.drift_alerts (
    alert_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    strategy_id text NOT NULL,
    rule text NOT NULL,
    metric text NOT NULL,
    severity text NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'acknowledged', 'silenced', 'resolved')),
    session date NOT NULL,
    last_session date NOT NULL,
    resolved_session date,
    value double precision,
    action text NOT NULL DEFAULT '',
    note text NOT NULL DEFAULT '',
    silenced_until timestamptz,
    changed_by text NOT NULL DEFAULT session_user,
    inhibited boolean NOT NULL DEFAULT false,
    -- The state in the last notification.
    notified_state text,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (strategy_id, rule, session)
);
CREATE INDEX drift_alerts_unresolved ON mlops.drift_alerts (strategy_id)
    WHERE state <> 'resolved';

CREATE TABLE mlops.drift_alert_events (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id bigint NOT NULL,
    happened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state_before text,
    state_after text,
    session date NOT NULL,
    severity text NOT NULL,
    changed_by text NOT NULL,
    note text NOT NULL,
    silenced_until timestamptz
);
CREATE INDEX drift_alert_events_of ON mlops.drift_alert_events (alert_id, event_id);

-- A silence is in event time: it holds for sessions that close before its end, at any time of
-- computation.
CREATE TABLE mlops.drift_silences (
    silence_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    strategy_id text NOT NULL,
    rule text NOT NULL,
    silenced_from timestamptz NOT NULL,
    silenced_until timestamptz NOT NULL,
    silenced_by text NOT NULL,
    why text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (silenced_until > silenced_from)
);

-- Hashes of a feature's values in a session, by groups of names: they show that the next session has
-- the same values (a frozen or late feed) without reading the values again.
CREATE TABLE mlops.drift_feature_prints (
    strategy_id text NOT NULL,
    session date NOT NULL,
    dimension text NOT NULL,
    prints integer[] NOT NULL,
    PRIMARY KEY (strategy_id, session, dimension)
);
