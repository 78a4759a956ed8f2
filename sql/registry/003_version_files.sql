--! requires: mlflow
-- The files of a registered version, as they were when it was registered (or, if it had none then,
-- when it first got an alias or a stage). They are frozen: the ledger refuses other bytes, new files
-- and deletions. `path` is relative to the version's place, so that a version whose files moved to
-- another store can still be compared.
CREATE TABLE mlops.version_files (
    workspace text NOT NULL,
    name text NOT NULL,
    version integer NOT NULL,
    path text COLLATE "C" NOT NULL,
    location text COLLATE "C" NOT NULL,
    place text COLLATE "C" NOT NULL,
    checksum text NOT NULL,
    size_bytes bigint NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    db_user text NOT NULL DEFAULT session_user,
    PRIMARY KEY (workspace, name, version, path)
);
CREATE INDEX version_files_location ON mlops.version_files (location);
CREATE INDEX version_files_place ON mlops.version_files (place);
COMMENT ON TABLE mlops.version_files IS
    'The files of every registered version with the SHA-256 that they had at its registration.';
