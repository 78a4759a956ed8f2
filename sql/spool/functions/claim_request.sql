-- Whether a request is new; called in the transaction that writes what the request holds.
--
-- A second session with the same request waits here until the first one has committed or rolled
-- back, because the primary key lets only one of them insert.
CREATE OR REPLACE FUNCTION mlops.claim_request(claimed uuid, hash bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    stored mlops.requests;
BEGIN
    INSERT INTO mlops.requests (request, content) VALUES (claimed, hash) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        RETURN true;
    END IF;
    SELECT * INTO stored FROM mlops.requests WHERE request = claimed;
    IF stored.content <> hash THEN
        RAISE EXCEPTION 'this request id was recorded at % with another content', stored.recorded_at
            USING ERRCODE = 'ML409';
    END IF;
    RETURN false;
END
$$;
