--! requires: mlflow
-- Insert points, ignoring those that exist. ON CONFLICT costs 50% more per row (it reads the
-- index before and after), and duplicates are rare, so a plain INSERT is tried first.
CREATE OR REPLACE FUNCTION mlops.insert_points(
    run text, keys text[], points float8[], timestamps bigint[], steps bigint[], nans boolean[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO "@mlflow".metrics (run_uuid, key, value, "timestamp", step, is_nan)
    SELECT run, point.* FROM unnest(keys, points, timestamps, steps, nans) AS point;
EXCEPTION WHEN unique_violation THEN
    INSERT INTO "@mlflow".metrics (run_uuid, key, value, "timestamp", step, is_nan)
    SELECT run, point.* FROM unnest(keys, points, timestamps, steps, nans) AS point
    ON CONFLICT DO NOTHING;
END
$$;
