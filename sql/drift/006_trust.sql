-- Provisional references, repaired features, and the step at which MLflow has a session.
-- Clients of this revision and older ones work side by side, except that an older one cannot compute a
-- strategy whose reference is provisional.

-- A session's step in the series run; it differs from session_number where the numbering changed after
-- logging. The series is then logged again.
ALTER TABLE mlops.drift_runs ADD COLUMN logged_number integer;
UPDATE mlops.drift_runs SET logged_number = session_number WHERE logged_revision IS NOT NULL;

-- 'provisional': what a strategy looked like in its first sessions; it judges until one is accepted.
ALTER TABLE mlops.drift_references DROP CONSTRAINT drift_references_role_check;
ALTER TABLE mlops.drift_references ADD CONSTRAINT drift_references_role_check
    CHECK (role IN ('accepted', 'fixed', 'provisional'));

-- A person's statement that a feature is right again from a session on. A late feed that catches up
-- looks like any other day; the monitor cannot always see it.
CREATE TABLE mlops.drift_repairs (
    strategy_id text NOT NULL,
    feature text NOT NULL,
    session date NOT NULL,
    repaired_by text NOT NULL,
    reason text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (strategy_id, feature, session)
);
