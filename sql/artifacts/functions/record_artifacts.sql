-- Enter files into the ledger; earlier rows of the same locations are closed. A file in the database
-- is entered with the checksum that the database has computed of it.
-- SECURITY DEFINER: writers can add to the ledger, and neither change nor delete what is there.
CREATE OR REPLACE FUNCTION mlops.record_artifacts(
    locations text[], types text[], checksums text[], sizes bigint[], origin text, mlflow_user text
) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, mlops, pg_temp AS $$
DECLARE
    wrong text;
BEGIN
    SELECT file.location INTO wrong
    FROM unnest(locations, checksums, sizes) AS file (location, checksum, size_bytes)
    JOIN mlops.artifact_files AS stored ON stored.path = substr(file.location, 24)
    JOIN mlops.artifact_contents AS content USING (content_id)
    WHERE starts_with(file.location, 'timescaledb-artifacts:/')
        AND (encode(content.sha256, 'hex'), content.size_bytes)
            IS DISTINCT FROM (file.checksum, file.size_bytes)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'artifact % has another SHA-256 in the database', wrong
            USING ERRCODE = 'data_exception';
    END IF;
    FOR attempt IN 1 .. 20 LOOP
        BEGIN
            UPDATE mlops.model_artifacts AS a SET ended_at = clock_timestamp(), ended = 'replaced'
            WHERE a.location = ANY (locations) AND a.ended_at IS NULL;
            INSERT INTO mlops.model_artifacts (location, artifact_type, checksum, size_bytes, origin,
                mlflow_user)
            SELECT file.location, file.artifact_type, file.checksum, file.size_bytes,
                record_artifacts.origin, record_artifacts.mlflow_user
            FROM unnest(locations, types, checksums, sizes)
                AS file (location, artifact_type, checksum, size_bytes);
            RETURN;
        EXCEPTION WHEN unique_violation THEN
            -- Another writer logged the same path between the two statements: close its row too.
            IF attempt = 20 THEN
                RAISE;
            END IF;
        END;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION mlops.record_artifacts(text[], text[], text[], bigint[], text, text)
    FROM PUBLIC;
