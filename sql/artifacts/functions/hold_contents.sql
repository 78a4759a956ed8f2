-- Which of these contents are stored? They cannot be removed until the transaction ends.
-- SECURITY DEFINER: a lock needs the right to update, which writers do not have.
CREATE OR REPLACE FUNCTION mlops.hold_contents(digests bytea[])
RETURNS TABLE (sha256 bytea, content_id bigint) LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, mlops, pg_temp AS $$
    SELECT content.sha256, content.content_id FROM mlops.artifact_contents AS content
    WHERE content.sha256 = ANY (digests) ORDER BY content.sha256 FOR KEY SHARE
$$;
REVOKE ALL ON FUNCTION mlops.hold_contents(bytea[]) FROM PUBLIC;
