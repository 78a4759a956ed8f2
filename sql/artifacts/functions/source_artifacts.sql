-- One checksum for all files of a model version: the SHA-256 of the list that `sha256sum` prints
-- of them, in the order of their paths. As there, a line whose path needs it begins with a
-- backslash: without it, a path with a line end could stand for two files.
CREATE OR REPLACE FUNCTION mlops.source_artifacts(source text, run_id text)
RETURNS TABLE (checksum text, files bigint, size_bytes bigint) LANGUAGE sql STABLE AS $$
    SELECT
        encode(sha256(convert_to(string_agg(
            CASE WHEN a.artifact_path ~ E'[\\\\\n\r]' THEN E'\\' ELSE '' END
            || a.checksum || '  '
            || replace(replace(replace(a.artifact_path, E'\\', E'\\\\'), E'\n', E'\\n'), E'\r', E'\\r')
            || E'\n', '' ORDER BY a.artifact_path
        ), 'UTF8')), 'hex'),
        count(*),
        coalesce(sum(a.size_bytes), 0)::bigint
    FROM mlops.source_files(source, run_id) AS a
$$;
