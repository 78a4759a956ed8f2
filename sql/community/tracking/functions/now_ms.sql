--! requires: mlflow metrics_rebuild
-- A chunk that is a week past is compressed: each series by itself, in the order in which it is read,
-- so that a read of one series decompresses that series only. Late points may still come in, and
-- deleting a run removes its points from compressed chunks, too.
CREATE OR REPLACE FUNCTION mlops.now_ms() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT (extract(epoch FROM now()) * 1000)::bigint
$$;
