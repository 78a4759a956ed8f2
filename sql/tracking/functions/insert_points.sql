--! requires: mlflow
-- ON CONFLICT makes each row's insertion half as dear again (it asks the index before and after), and
-- hardly ever is a point logged twice: insert plainly, and once more with it where that fails.
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
