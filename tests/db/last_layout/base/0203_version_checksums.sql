--! requires: mlflow
-- One checksum for all files of a model version: what `sha256sum` says of the list that `sha256sum`
-- writes of them, in the order of their paths. A version's source says where its files are: a logged
-- model, or a directory of a run.
CREATE FUNCTION mlops.source_artifacts(source text, run_id text)
RETURNS TABLE (checksum text, files bigint, size_bytes bigint) LANGUAGE sql STABLE AS $$
    SELECT
        encode(sha256(convert_to(string_agg(
            a.checksum || '  ' || a.artifact_path || E'\n', '' ORDER BY a.artifact_path
        ), 'UTF8')), 'hex'),
        count(*),
        coalesce(sum(a.size_bytes), 0)::bigint
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

CREATE VIEW mlops.version_checksums AS
SELECT v.workspace, v.name, v.version, kept.*
FROM mlops.mlflow_model_versions() AS v
CROSS JOIN LATERAL mlops.source_artifacts(v.source, v.run_id) AS kept;
COMMENT ON VIEW mlops.version_checksums IS
    'One SHA-256, the number of files and their size for every model version, from the ledger';

CREATE OR REPLACE VIEW mlops.models AS
SELECT models.*, (SELECT kept.checksum FROM mlops.source_artifacts(source, run_id) AS kept) AS checksum
FROM mlops.mlflow_models() AS models;
