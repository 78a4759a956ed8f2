-- What a source held of all that is not a run, and of the artifacts, when it was last brought (`import`,
-- `sync`), as 002 has it for runs.
-- Clients of this revision and older ones work side by side: older ones do not know the tables.
CREATE TABLE mlops.brought_entities (
    -- Such as trace, logged model, registered model.
    kind text NOT NULL,
    id text NOT NULL,
    -- A hash of what the source held: the same one is skipped.
    mark text NOT NULL,
    -- A short hash of each row, by table and key, where the row here was the same: a row with another
    -- hash here was changed here.
    rows jsonb NOT NULL DEFAULT '{}',
    brought_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, id)
);

-- The artifacts of runs and logged models that were copied.
CREATE TABLE mlops.brought_artifacts (
    -- The id of a run or a logged model.
    owner_id text PRIMARY KEY,
    -- Where the files were.
    source text NOT NULL,
    -- A hash of the files' names and stamps.
    mark text NOT NULL,
    -- The stamp of each file: its size, with its checksum or its time of change.
    files jsonb NOT NULL,
    brought_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
