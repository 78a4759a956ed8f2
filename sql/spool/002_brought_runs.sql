-- The runs that came from another MLflow (`import`, `sync`): what their source held when they were last
-- brought. A run whose mark is the same is skipped; a tag that is the same there was changed here, and
-- stays; a run that is here no more was deleted here, and stays deleted.
-- Clients of this revision and older ones work side by side: older ones do not know the table.
CREATE TABLE mlops.brought_runs (
    run_uuid text PRIMARY KEY,
    -- A hash of what the source held: files with their sizes and times, or rows.
    mark text NOT NULL,
    status text,
    -- A short hash of each tag.
    tags jsonb NOT NULL,
    brought_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
