-- Point paths of the in-database store at contents, enter the files into the ledger, and return the
-- contents that the paths pointed at before. Both at once: what the ledger refuses (other bytes where
-- a registered version is) cannot be stored without it.
-- SECURITY DEFINER: writers have no right on the paths themselves.
CREATE OR REPLACE FUNCTION mlops.put_files(
    paths text[], content_ids bigint[], types text[], mlflow_user text
) RETURNS SETOF bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, mlops, pg_temp AS $$
DECLARE
    replaced bigint[];
BEGIN
    SELECT array_agg(earlier.content_id) INTO replaced FROM (
        SELECT f.content_id FROM mlops.artifact_files AS f
        WHERE f.path = ANY (paths) ORDER BY f.path FOR UPDATE
    ) AS earlier;
    INSERT INTO mlops.artifact_files (path, content_id)
    SELECT file.path, file.content_id
    FROM unnest(paths, content_ids) AS file (path, content_id)
    ORDER BY file.path COLLATE "C"
    ON CONFLICT (path) DO UPDATE SET content_id = excluded.content_id;
    PERFORM mlops.record_artifacts(
        array_agg('timescaledb-artifacts:/' || file.path), array_agg(file.artifact_type),
        array_agg(encode(content.sha256, 'hex')), array_agg(content.size_bytes), 'logged',
        mlflow_user)
    FROM unnest(paths, content_ids, types) AS file (path, content_id, artifact_type)
    JOIN mlops.artifact_contents AS content USING (content_id);
    RETURN QUERY
    SELECT DISTINCT earlier FROM unnest(replaced) AS earlier WHERE earlier <> ALL (content_ids);
END $$;
REVOKE ALL ON FUNCTION mlops.put_files(text[], bigint[], text[], text) FROM PUBLIC;
