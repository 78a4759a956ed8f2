-- The current ledger rows of a model version, with their paths below the place that its source
-- names: a logged model, a run, a directory or a file of one, or a place that belongs to neither.
-- The owner is decided as in the ledger: by the first run or logged model in the source. The run of
-- the version counts only if it has no source.
CREATE OR REPLACE FUNCTION mlops.source_paths(source text, run_id text)
RETURNS TABLE (artifact_id bigint, location text, path text, checksum text, size_bytes bigint)
LANGUAGE sql STABLE AS $$
    WITH place AS (
        SELECT
            coalesce(by_id[1], owner[1]) AS model_id,
            coalesce(by_id[2], owner[2],
                CASE WHEN coalesce(source, '') = '' THEN source_paths.run_id END) AS run_id,
            nullif(rtrim(coalesce(by_id[3], owner[3]), '/'), '') AS below,
            regexp_replace(regexp_replace(
                rtrim(regexp_replace(source, '^sha256\+', ''), '/'), '^file:/+', 'file:///'),
                '^/', 'file:///') AS root
        FROM (SELECT
            regexp_match(
                source, '^(?:models:/(m-[0-9a-f]{32})|runs:/([0-9a-f]{32}))(?:/(.*))?$') AS by_id,
            regexp_match(
                source,
                '/(?:models/(m-[0-9a-f]{32})|([0-9a-f]{32}))/artifacts(?:/(.*))?$') AS owner
        ) AS matched
    ), owned AS (
        SELECT a.artifact_id, a.location, a.artifact_path, a.checksum, a.size_bytes, place.below
        FROM place JOIN mlops.model_artifacts AS a ON a.model_id = place.model_id
        WHERE a.ended_at IS NULL
        UNION ALL
        SELECT a.artifact_id, a.location, a.artifact_path, a.checksum, a.size_bytes, place.below
        FROM place JOIN mlops.model_artifacts AS a ON a.run_id = place.run_id
        WHERE a.ended_at IS NULL AND place.model_id IS NULL
        UNION ALL
        SELECT a.artifact_id, a.location, a.location, a.checksum, a.size_bytes, place.root
        FROM place JOIN mlops.model_artifacts AS a
            ON a.location = place.root
            OR a.location >= place.root || '/' AND a.location < place.root || '0'
        WHERE a.ended_at IS NULL AND place.model_id IS NULL AND place.run_id IS NULL
            AND place.root <> ''
    )
    SELECT owned.artifact_id, owned.location,
        CASE
            WHEN below IS NULL THEN artifact_path
            WHEN artifact_path = below THEN regexp_replace(below, '^.*/', '')
            ELSE substr(artifact_path, length(below) + 2)
        END,
        owned.checksum, owned.size_bytes
    FROM owned
    WHERE below IS NULL OR artifact_path = below
        OR artifact_path >= below || '/' AND artifact_path < below || '0'
$$;
