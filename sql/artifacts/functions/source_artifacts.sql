-- One checksum for all files of a model version: the SHA-256 of the list that `sha256sum` prints
-- of them, in the order of their paths.
CREATE OR REPLACE FUNCTION mlops.source_artifacts(source text, run_id text)
RETURNS TABLE (checksum text, files bigint, size_bytes bigint) LANGUAGE sql STABLE AS $$
    SELECT
        encode(sha256(convert_to(string_agg(
            a.checksum || '  ' || a.artifact_path || E'\n', '' ORDER BY a.artifact_path
        ), 'UTF8')), 'hex'),
        count(*),
        coalesce(sum(a.size_bytes), 0)::bigint
    FROM mlops.source_files(source, run_id) AS a
$$;
