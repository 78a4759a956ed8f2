--! requires: mlflow metrics_rebuild
-- The number of points of a series before a step. Marks count up to the rank `marked`.
CREATE OR REPLACE FUNCTION mlops.points_before(
    run text, series text, before_step bigint, marked bigint, first_ms bigint, last_ms bigint
) RETURNS bigint LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_custom_plan
SET jit = off
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
DECLARE
    mark mlops.metric_marks;
    walked bigint;
BEGIN
    SELECT * INTO mark
    FROM mlops.metric_marks AS each
    WHERE each.run_uuid = run AND each.key = series AND each.step < before_step AND marked > 0
    ORDER BY each.step DESC, each."timestamp" DESC, each.value DESC, each.is_nan DESC
    LIMIT 1;
    SELECT count(*) INTO walked
    FROM "@mlflow".metrics
    WHERE metrics.run_uuid = run
        AND metrics.key = series
        AND metrics."timestamp" BETWEEN first_ms AND last_ms
        AND metrics.step < before_step
        AND (metrics.step, metrics."timestamp", metrics.value, metrics.is_nan) >= (
            coalesce(mark.step, -9223372036854775808),
            coalesce(mark."timestamp", -9223372036854775808),
            coalesce(mark.value, '-Infinity'), coalesce(mark.is_nan, false)
        )
        AND (coalesce(mark.stride, 0) = 0 OR metrics.step >= mark.step);
    RETURN coalesce(mark.rank, 0) + walked;
END
$$;
