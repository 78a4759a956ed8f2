--! requires: mlflow metrics_rebuild
-- The length of a series, the rank that its marks reach, whether its timestamps follow the order
-- of its steps, and the range of times of its run (NULL: it has no points). Marks whose points
-- were dropped do not count.
CREATE OR REPLACE FUNCTION mlops.measure(
    run text, series text,
    OUT first_ms bigint, OUT last_ms bigint, OUT marked bigint, OUT points bigint, OUT ordered boolean
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_custom_plan
SET jit = off
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
DECLARE
    mark mlops.metric_marks;
BEGIN
    SELECT range.first_ms, range.last_ms INTO first_ms, last_ms
    FROM mlops.run_ranges AS range WHERE range.run_uuid = run;

    SELECT * INTO mark
    FROM mlops.metric_marks AS each
    WHERE each.run_uuid = run AND each.key = series
    ORDER BY each.rank
    LIMIT 1;
    ordered := NOT FOUND OR EXISTS (
        SELECT FROM "@mlflow".metrics
        WHERE metrics.run_uuid = run
            AND metrics.key = series
            AND metrics."timestamp" = mark."timestamp"
            AND (metrics.step, metrics.value, metrics.is_nan) = (mark.step, mark.value, mark.is_nan)
    );
    IF ordered THEN
        SELECT * INTO mark FROM mlops.mark_at(run, series, 9223372036854775807);
        ordered := NOT EXISTS (
            SELECT FROM mlops.metric_marks AS each
            WHERE each.run_uuid = run AND each.key = series AND NOT each.ordered
        );
    ELSE
        mark := NULL;
    END IF;

    marked := coalesce(mark.rank, 0);
    SELECT
        marked + count(*),
        ordered AND coalesce(bool_and(tail.ms >= tail.previous_ms), true)
    INTO points, ordered
    FROM (
        SELECT
            metrics."timestamp" AS ms,
            lag(metrics."timestamp", 1, metrics."timestamp") OVER (
                ORDER BY metrics.step, metrics."timestamp", metrics.value, metrics.is_nan
            ) AS previous_ms
        FROM "@mlflow".metrics
        WHERE metrics.run_uuid = run
            AND metrics.key = series
            AND metrics."timestamp" BETWEEN first_ms AND last_ms
            AND (metrics.step, metrics."timestamp", metrics.value, metrics.is_nan) >= (
                coalesce(mark.step, -9223372036854775808),
                coalesce(mark."timestamp", -9223372036854775808),
                coalesce(mark.value, '-Infinity'), coalesce(mark.is_nan, false)
            )
            AND (coalesce(mark.stride, 0) = 0 OR metrics.step >= mark.step)
    ) AS tail;
END
$$;
