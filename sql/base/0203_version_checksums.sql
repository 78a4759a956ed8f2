--! requires: mlflow
-- One checksum for all files of a model version: what `sha256sum` says of the list that `sha256sum`
-- writes of them, in the order of their paths. A function with a string body under the view, as for
-- everything over MLflow's tables: no dependency that would stop MLflow's own migrations.
DO $install$
DECLARE
    mlflow_schema text := (
        SELECT quote_ident(nspname) FROM pg_namespace
        WHERE oid = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('runs'))
    );
BEGIN
EXECUTE replace($function$
CREATE FUNCTION mlops.mlflow_version_checksums() RETURNS TABLE (
    workspace text, name text, version integer, checksum text, files bigint, size_bytes bigint
) LANGUAGE sql STABLE AS $$
    SELECT v.workspace::text, v.name::text, v.version, kept.checksum, kept.files, kept.size_bytes
    FROM "@mlflow".model_versions AS v
    CROSS JOIN LATERAL (SELECT
        coalesce(
            substring(v.source FROM '^models:/(m-[0-9a-f]{32})'),
            substring(v.source FROM '/models/(m-[0-9a-f]{32})/artifacts')
        ) AS model_id,
        coalesce(
            substring(v.source FROM '^runs:/([0-9a-f]{32})'),
            substring(v.source FROM '/([0-9a-f]{32})/artifacts'), v.run_id
        ) AS run_id,
        coalesce(
            substring(v.source FROM '^runs:/[0-9a-f]{32}/(.+?)/?$'),
            substring(v.source FROM '/(?:m-)?[0-9a-f]{32}/artifacts/(.+?)/?$')
        ) AS below
    ) AS owner
    CROSS JOIN LATERAL (
        SELECT count(*) AS files, coalesce(sum(a.size_bytes), 0)::bigint AS size_bytes,
            encode(sha256(convert_to(string_agg(
                a.checksum || '  ' || a.artifact_path || E'\n', '' ORDER BY a.artifact_path
            ), 'UTF8')), 'hex') AS checksum
        FROM mlops.model_artifacts AS a
        WHERE a.ended_at IS NULL
            AND (a.model_id = owner.model_id
                OR owner.model_id IS NULL AND a.run_id = owner.run_id)
            AND (owner.below IS NULL OR a.artifact_path = owner.below
                OR a.artifact_path >= owner.below || '/' AND a.artifact_path < owner.below || '0')
    ) AS kept
    WHERE v.current_stage IS DISTINCT FROM 'Deleted_Internal'
$$ $function$, '"@mlflow"', mlflow_schema);

EXECUTE 'CREATE VIEW mlops.version_checksums AS SELECT * FROM mlops.mlflow_version_checksums()';
IF to_regclass('mlops.models') IS NOT NULL THEN
    EXECUTE 'CREATE OR REPLACE VIEW mlops.models AS
        SELECT models.*, (
            SELECT sums.checksum FROM mlops.mlflow_version_checksums() AS sums
            WHERE sums.workspace = models.workspace AND sums.name = models.name
                AND sums.version = models.version
        ) AS checksum
        FROM mlops.mlflow_models() AS models';
END IF;
END $install$;
COMMENT ON VIEW mlops.version_checksums IS
    'One SHA-256, the number of files and their size for every model version, from the ledger.';
