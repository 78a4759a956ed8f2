--! requires: mlflow metrics_rebuild
-- Generate "key/min" and "key/max" for runs that have points, and return how many of them the runs have now.
-- The row of its range is the lock of each run's writers.
CREATE OR REPLACE FUNCTION mlops.show_extremes(runs text[]) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM mlops.run_ranges WHERE run_uuid = ANY (runs) ORDER BY run_uuid FOR UPDATE;
    PERFORM mlops.raise_extremes(
        of_run.run_uuid, of_run.keys, of_run.points, of_run.timestamps, of_run.steps, of_run.nans
    )
    FROM (
        SELECT
            extreme.run_uuid, array_agg(extreme.key) AS keys, array_agg(point.value) AS points,
            array_agg((
                SELECT min(metrics."timestamp")
                FROM "@mlflow".metrics
                WHERE metrics.run_uuid = extreme.run_uuid
                    AND metrics.key = extreme.key
                    AND metrics.step = point.step
                    AND metrics.value = point.value
                    AND NOT metrics.is_nan
            )) AS timestamps,
            array_agg(point.step) AS steps, array_agg(false) AS nans
        FROM unnest(runs) AS chosen (run_uuid)
        JOIN mlops.metric_extremes AS extreme USING (run_uuid)
        CROSS JOIN LATERAL (
            VALUES (extreme.min, extreme.min_step), (extreme.max, extreme.max_step)
        ) AS point (value, step)
        WHERE point.step IS NOT NULL
        GROUP BY extreme.run_uuid
    ) AS of_run;
    RETURN (SELECT count(*) FROM mlops.generated_metrics WHERE run_uuid = ANY (runs));
END
$$;
