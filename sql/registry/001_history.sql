--! requires: mlflow
--! replaces: base/0202_registry_history
-- The history of the model registry: aliases, stages, versions, their tags, models. Aliases change
-- on five paths of MLflow (set, delete, delete of a version, foreign-key cascades of a model's delete
-- and rename), and deleting a version overwrites its source: only the database sees all changes.
CREATE TABLE mlops.registry_history (
    history_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('model', 'version', 'alias', 'stage', 'tag')),
    subject text NOT NULL,
    version integer,
    value text,
    detail jsonb NOT NULL DEFAULT '{}',
    valid_from timestamptz NOT NULL,
    valid_to timestamptz CHECK (valid_to > valid_from),
    db_user text NOT NULL DEFAULT session_user,
    mlflow_user text,
    reason text,
    ended text CHECK (ended IN ('changed', 'deleted', 'renamed')),
    ended_db_user text,
    ended_mlflow_user text,
    ended_reason text,
    -- The exclusion constraint needs a type that GiST compares without an extension: a range of one
    -- number per subject.
    thing numeric NOT NULL GENERATED ALWAYS AS (hashtextextended(
        workspace || E'\x1f' || name || E'\x1f' || kind || E'\x1f' || subject, 0)::numeric) STORED,
    CHECK ((valid_to IS NULL) = (ended IS NULL)),
    CONSTRAINT registry_history_has_no_overlap EXCLUDE USING gist (
        numrange(thing, thing, '[]') WITH &&, tstzrange(valid_from, valid_to) WITH &&)
);
CREATE UNIQUE INDEX registry_history_open
    ON mlops.registry_history (workspace, name, kind, subject) WHERE valid_to IS NULL;
CREATE INDEX registry_history_subject
    ON mlops.registry_history (workspace, name, kind, subject, valid_from DESC);
