--! requires: mlflow
-- Add one point and update the latest metric. Single points are the most frequent call: no
-- arrays, and no subtransaction, which log_metrics needs in case a point exists.
CREATE OR REPLACE FUNCTION mlops.log_metric(
    run text, in_workspace text, series text, point float8, ms bigint, at bigint, nan boolean
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mlops.open_run(run, in_workspace);
    INSERT INTO "@mlflow".metrics (run_uuid, key, value, "timestamp", step, is_nan)
    VALUES (run, series, point, ms, at, nan)
    ON CONFLICT DO NOTHING;
    INSERT INTO "@mlflow".latest_metrics AS latest (run_uuid, key, value, "timestamp", step, is_nan)
    VALUES (run, series, point, ms, at, nan)
    ON CONFLICT (key, run_uuid) DO UPDATE SET
        value = excluded.value,
        "timestamp" = excluded."timestamp",
        step = excluded.step,
        is_nan = excluded.is_nan
    WHERE (excluded.step, excluded."timestamp", excluded.value)
        > (latest.step, latest."timestamp", latest.value);
END
$$;
