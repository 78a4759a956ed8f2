-- Free the bytes of those contents that no path points at any more, and that are not kept as former
-- contents. Contents that another transaction
-- holds, to refer to them, are left alone.
-- SECURITY DEFINER: writers cannot delete contents that something points at.
CREATE OR REPLACE FUNCTION mlops.release_contents(ids bigint[]) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, mlops, pg_temp AS $$
DECLARE
    held bigint[] := ARRAY(
        SELECT c.content_id FROM mlops.artifact_contents AS c
        WHERE c.content_id = ANY (ids) ORDER BY c.content_id FOR UPDATE SKIP LOCKED);
BEGIN
    -- A separate statement: its snapshot begins after the locks are held, so it sees references that
    -- were committed in the meantime.
    WITH dropped AS (
        DELETE FROM mlops.artifact_contents AS content
        WHERE content_id = ANY (held) AND NOT EXISTS (
            SELECT FROM mlops.artifact_files AS file WHERE file.content_id = content.content_id)
            AND NOT EXISTS (
                SELECT FROM mlops.former_contents AS former
                WHERE former.content_id = content.content_id)
        RETURNING content_id
    )
    DELETE FROM mlops.artifact_chunks WHERE content_id IN (SELECT content_id FROM dropped);
END $$;
REVOKE ALL ON FUNCTION mlops.release_contents(bigint[]) FROM PUBLIC;
