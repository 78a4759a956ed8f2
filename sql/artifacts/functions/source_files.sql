-- The ledger rows of a model version. Its source names the place of its files: a logged model, or
-- a directory of a run.
CREATE OR REPLACE FUNCTION mlops.source_files(source text, run_id text)
RETURNS SETOF mlops.model_artifacts LANGUAGE sql STABLE AS $$
    SELECT a.*
    FROM (SELECT
        coalesce(
            substring(source FROM '^models:/(m-[0-9a-f]{32})'),
            substring(source FROM '/models/(m-[0-9a-f]{32})/artifacts')
        ) AS model_id,
        coalesce(
            substring(source FROM '^runs:/([0-9a-f]{32})'),
            substring(source FROM '/([0-9a-f]{32})/artifacts'), run_id
        ) AS run_id,
        coalesce(
            substring(source FROM '^runs:/[0-9a-f]{32}/(.+?)/?$'),
            substring(source FROM '/(?:m-)?[0-9a-f]{32}/artifacts/(.+?)/?$')
        ) AS below
    ) AS owner
    JOIN mlops.model_artifacts AS a ON a.ended_at IS NULL
        AND (a.model_id = owner.model_id OR owner.model_id IS NULL AND a.run_id = owner.run_id)
        AND (owner.below IS NULL OR a.artifact_path = owner.below
            OR a.artifact_path >= owner.below || '/' AND a.artifact_path < owner.below || '0')
$$;
