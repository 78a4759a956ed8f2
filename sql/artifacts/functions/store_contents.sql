-- Enter contents whose chunks are written, and return under which number each is stored. The database
-- computes the checksums from the chunks, so that no writer can enter bytes under a false SHA-256. One
-- exception: PostgreSQL hashes one value at a time, so the SHA-256 of a whole content of more than 128
-- MiB is the writer's; those of its chunks are the database's, and every download compares both.
-- SECURITY DEFINER: writers may insert chunks, and nothing else.
CREATE OR REPLACE FUNCTION mlops.store_contents(ids bigint[], digests bytea[], chunk integer)
RETURNS TABLE (sha256 bytea, content_id bigint) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, mlops, pg_temp AS $$
#variable_conflict use_column
DECLARE
    given record;
    written record;
    stored mlops.artifact_contents;
    digest bytea;
BEGIN
    FOR given IN
        SELECT new.id, new.digest FROM unnest(ids, digests) AS new (id, digest) ORDER BY new.digest
    LOOP
        SELECT
            coalesce(sum(length(c.data)), 0)::bigint AS size, count(*) AS chunks,
            coalesce(array_agg(pg_catalog.sha256(c.data) ORDER BY c.number), '{}') AS digests,
            count(*) FILTER (WHERE length(c.data) <> chunk) AS partial,
            coalesce(max(c.number), -1) + 1 AS numbers,
            coalesce(max(length(c.data)), 0) AS longest
        INTO written
        FROM mlops.artifact_chunks AS c WHERE c.content_id = given.id;
        digest := CASE
            WHEN written.chunks = 0 THEN pg_catalog.sha256('')
            WHEN written.chunks = 1 THEN written.digests[1]
            WHEN written.size <= 134217728 THEN (
                SELECT pg_catalog.sha256(string_agg(c.data, '' ORDER BY c.number))
                FROM mlops.artifact_chunks AS c WHERE c.content_id = given.id)
            ELSE given.digest
        END;
        IF digest IS DISTINCT FROM given.digest OR written.numbers <> written.chunks
            OR written.partial > 1 OR written.longest > chunk THEN
            RAISE EXCEPTION 'the bytes that arrived are not those of SHA-256 %',
                encode(given.digest, 'hex') USING ERRCODE = 'data_exception',
                HINT = 'Log the file again.';
        END IF;
        LOOP
            INSERT INTO mlops.artifact_contents (content_id, sha256, size_bytes, chunk_size, chunk_sha256)
            VALUES (given.id, digest, written.size, chunk, written.digests)
            ON CONFLICT (sha256) DO NOTHING;
            IF FOUND THEN
                content_id := given.id;
                EXIT;
            END IF;
            -- Another writer stored it. It may be deleted before it is locked: then try again.
            SELECT * INTO stored FROM mlops.artifact_contents AS c WHERE c.sha256 = digest FOR KEY SHARE;
            IF FOUND THEN
                IF stored.chunk_size = chunk AND stored.chunk_sha256 <> written.digests THEN
                    RAISE EXCEPTION 'other bytes are stored under SHA-256 %', encode(digest, 'hex')
                        USING ERRCODE = 'data_exception',
                            HINT = 'mlflow-timescale artifacts verify finds the files with them.';
                END IF;
                DELETE FROM mlops.artifact_chunks AS c WHERE c.content_id = given.id;
                content_id := stored.content_id;
                EXIT;
            END IF;
        END LOOP;
        sha256 := digest;
        RETURN NEXT;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION mlops.store_contents(bigint[], bytea[], integer) FROM PUBLIC;
