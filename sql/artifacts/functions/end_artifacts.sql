-- Close the ledger's rows of a file or a directory that was deleted, except those that are kept. What
-- is still in the database is not deleted.
-- SECURITY DEFINER: writers cannot update the ledger.
CREATE OR REPLACE FUNCTION mlops.end_artifacts(of_location text, kept text[]) RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, mlops, pg_temp AS $$
DECLARE
    of_path text := substr(of_location, 24);
    left_over text;
BEGIN
    IF starts_with(of_location, 'timescaledb-artifacts:/') THEN
        SELECT f.path INTO left_over FROM mlops.artifact_files AS f
        WHERE (f.path = of_path OR f.path >= of_path || '/' AND f.path < of_path || '0')
            AND 'timescaledb-artifacts:/' || f.path <> ALL (kept)
        LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'artifact % is in the database, so its row stays open', left_over
                USING ERRCODE = 'object_in_use';
        END IF;
    END IF;
    UPDATE mlops.model_artifacts AS a SET ended_at = clock_timestamp(), ended = 'deleted'
    WHERE a.ended_at IS NULL
        AND (a.location = of_location
            OR a.location >= of_location || '/' AND a.location < of_location || '0')
        AND a.location <> ALL (kept);
END $$;
REVOKE ALL ON FUNCTION mlops.end_artifacts(text, text[]) FROM PUBLIC;
