-- The bytes of chosen artifacts after they were replaced or deleted: qlib's updater overwrites pred.pkl.
-- The ledger has the SHA-256, size and times of every file that was ever logged; here is which of these
-- contents the in-database store does not free.
-- Clients of this revision and older ones work side by side: a trigger of the ledger keeps contents, and
-- functions of the database free them.

-- Which paths: * stands for any characters, ? for one. A period that has ended has kept_to.
CREATE TABLE mlops.kept_paths (
    pattern text NOT NULL,
    kept_from timestamptz NOT NULL DEFAULT clock_timestamp(),
    kept_to timestamptz CHECK (kept_to > kept_from),
    db_user text NOT NULL DEFAULT session_user,
    PRIMARY KEY (pattern, kept_from)
);
CREATE UNIQUE INDEX kept_paths_now ON mlops.kept_paths (pattern) WHERE kept_to IS NULL;
INSERT INTO mlops.kept_paths (pattern) VALUES ('pred.pkl');

CREATE TABLE mlops.former_contents (
    artifact_id bigint PRIMARY KEY REFERENCES mlops.model_artifacts,
    content_id bigint NOT NULL REFERENCES mlops.artifact_contents
);
CREATE INDEX former_contents_content ON mlops.former_contents (content_id);
COMMENT ON TABLE mlops.former_contents IS
    'The contents of replaced and deleted files that are kept, by their row of the ledger.';
