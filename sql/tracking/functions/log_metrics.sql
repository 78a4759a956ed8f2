--! requires: mlflow
-- Add the points that do not exist yet, and update latest metrics; `newest` marks the last point
-- of each series in this batch. Points are inserted first: their trigger takes the run's lock,
-- which every writer of the run waits for before it touches other shared rows.
CREATE OR REPLACE FUNCTION mlops.log_metrics(
    run text, in_workspace text, keys text[], points float8[], timestamps bigint[], steps bigint[],
    nans boolean[], newest boolean[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mlops.open_run(run, in_workspace);
    PERFORM mlops.insert_points(run, keys, points, timestamps, steps, nans);
    INSERT INTO "@mlflow".latest_metrics AS latest (run_uuid, key, value, "timestamp", step, is_nan)
    SELECT run, point.key, point.value, point.ms, point.step, point.is_nan
    FROM unnest(keys, points, timestamps, steps, nans, newest)
        AS point (key, value, ms, step, is_nan, newest)
    WHERE point.newest
    ON CONFLICT (key, run_uuid) DO UPDATE SET
        value = excluded.value,
        "timestamp" = excluded."timestamp",
        step = excluded.step,
        is_nan = excluded.is_nan
    WHERE (excluded.step, excluded."timestamp", excluded.value)
        > (latest.step, latest."timestamp", latest.value);
END
$$;
