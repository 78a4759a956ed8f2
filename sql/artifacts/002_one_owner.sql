-- One rule for the owner of a file, the same as mlflow_timescale.artifacts.locations.owner: the first
-- run or logged model in its location. What follows is a path that the owner's user chose, so a
-- file of a run at models/<model id>/artifacts/x is one of the run, and of no logged model.
ALTER TABLE mlops.model_artifacts
    DROP COLUMN run_id, DROP COLUMN model_id, DROP COLUMN artifact_path;
ALTER TABLE mlops.model_artifacts
    ADD COLUMN model_id text GENERATED ALWAYS AS (
        (regexp_match(location, '/(?:models/(m-[0-9a-f]{32})|([0-9a-f]{32}))/artifacts/'))[1]
    ) STORED,
    ADD COLUMN run_id text GENERATED ALWAYS AS (
        (regexp_match(location, '/(?:models/(m-[0-9a-f]{32})|([0-9a-f]{32}))/artifacts/'))[2]
    ) STORED,
    ADD COLUMN artifact_path text COLLATE "C" GENERATED ALWAYS AS (coalesce(
        (regexp_match(location, '/(?:models/m-[0-9a-f]{32}|[0-9a-f]{32})/artifacts/(.*)$'))[1],
        location
    )) STORED;
CREATE INDEX model_artifacts_run ON mlops.model_artifacts (run_id, artifact_path);
CREATE INDEX model_artifacts_model ON mlops.model_artifacts (model_id, artifact_path);
