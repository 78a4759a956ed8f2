--! requires: mlflow
-- The history of chosen run tags: qlib marks by the tag online_status which recorder is online, and a tag
-- has no past. Tags change on several paths of MLflow (set, batch, delete, deletion of a run, gc), and of
-- other programs: only the database sees all changes.
-- Clients of this revision and older ones work side by side: triggers keep the history. An older client
-- records its login, and neither user nor reason.

-- The keys of which a history is kept, and since when; a period that has ended has kept_to.
CREATE TABLE mlops.kept_tags (
    key text NOT NULL,
    kept_from timestamptz NOT NULL DEFAULT clock_timestamp(),
    kept_to timestamptz CHECK (kept_to > kept_from),
    db_user text NOT NULL DEFAULT session_user,
    PRIMARY KEY (key, kept_from)
);
CREATE UNIQUE INDEX kept_tags_now ON mlops.kept_tags (key) WHERE kept_to IS NULL;
INSERT INTO mlops.kept_tags (key) VALUES ('online_status');

CREATE TABLE mlops.run_tag_history (
    history_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id text NOT NULL,
    experiment_id integer,
    key text NOT NULL,
    value text,
    valid_from timestamptz NOT NULL,
    valid_to timestamptz CHECK (valid_to > valid_from),
    db_user text NOT NULL DEFAULT session_user,
    authenticated_user text,
    claimed_user text,
    reason text,
    ended text CHECK (ended IN ('changed', 'deleted', 'not kept')),
    ended_db_user text,
    ended_authenticated_user text,
    ended_claimed_user text,
    ended_reason text,
    -- As in mlops.registry_history: GiST compares a range of one number without an extension.
    thing numeric NOT NULL GENERATED ALWAYS AS (
        hashtextextended(run_id || E'\x1f' || key, 0)::numeric) STORED,
    CHECK ((valid_to IS NULL) = (ended IS NULL)),
    CONSTRAINT run_tag_history_has_no_overlap EXCLUDE USING gist (
        numrange(thing, thing, '[]') WITH &&, tstzrange(valid_from, valid_to) WITH &&)
);
CREATE UNIQUE INDEX run_tag_history_open ON mlops.run_tag_history (run_id, key) WHERE valid_to IS NULL;
CREATE INDEX run_tag_history_subject ON mlops.run_tag_history (run_id, key, valid_from DESC);
CREATE INDEX run_tag_history_experiment ON mlops.run_tag_history (experiment_id, key, valid_from);
COMMENT ON TABLE mlops.run_tag_history IS
    'Every state of the run tags in mlops.kept_tags, from when to when, and who changed it.';
