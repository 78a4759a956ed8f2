-- Take a file or a directory out of the in-database store, except the files that are kept, close
-- their rows of the ledger, and return their contents. The path is empty for the whole store.
-- SECURITY DEFINER: writers have no right on the paths themselves.
CREATE OR REPLACE FUNCTION mlops.remove_files(of_path text, kept text[]) RETURNS SETOF bigint
LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, mlops, pg_temp AS $$
BEGIN
    RETURN QUERY
    DELETE FROM mlops.artifact_files AS f
    WHERE (of_path = '' OR f.path = of_path OR f.path >= of_path || '/' AND f.path < of_path || '0')
        AND f.path <> ALL (kept)
    RETURNING f.content_id;
    PERFORM mlops.end_artifacts(
        rtrim('timescaledb-artifacts:/' || of_path, '/'),
        ARRAY(SELECT 'timescaledb-artifacts:/' || path FROM unnest(kept) AS path));
END $$;
REVOKE ALL ON FUNCTION mlops.remove_files(text, text[]) FROM PUBLIC;
