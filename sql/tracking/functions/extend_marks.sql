--! requires: mlflow metrics_rebuild
-- Mark the points after the last mark of each series, up to about four times the number of points
-- added. Custom plans: the range of times excludes chunks at planning time. Without sequential
-- and bitmap scans the planner walks the primary key in its order.
CREATE OR REPLACE FUNCTION mlops.extend_marks(
    run text, keys text[], added bigint[], first_ms bigint, last_ms bigint
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_custom_plan  -- so that the range excludes chunks when it is planned
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
BEGIN
    -- Marks that miss points would be wrong; points without marks are only slower to find.
    IF NOT mlops.sees_every_point(first_ms, last_ms) THEN
        RETURN;
    END IF;
    INSERT INTO mlops.metric_marks (
        run_uuid, key, rank, step, "timestamp", value, is_nan, ordered, stride, first_ms, last_ms,
        min_value, max_value
    )
    SELECT
        run, series.key, coalesce(last.rank, 0) + segment.number,
        segment.step, segment."timestamp", segment.value, segment.is_nan,
        segment.ordered, segment.stride, segment.first_ms, segment.last_ms,
        segment.min_value, segment.max_value
    FROM unnest(keys, added) AS series (key, points)
    LEFT JOIN LATERAL mlops.mark_at(run, series.key, 9223372036854775807) AS last ON true
    CROSS JOIN LATERAL (
        SELECT
            max(next.number) AS number,
            max(next.step) FILTER (WHERE next.number & 127 = 0) AS step,
            max(next."timestamp") FILTER (WHERE next.number & 127 = 0) AS "timestamp",
            max(next.value) FILTER (WHERE next.number & 127 = 0) AS value,
            bool_and(next.is_nan) FILTER (WHERE next.number & 127 = 0) AS is_nan,
            bool_and(next."timestamp" >= next.previous_ms) AS ordered,
            -- The first point has no earlier distance to compare with.
            CASE
                WHEN bool_and(coalesce(next.rise = next.previous_rise, false))
                    FILTER (WHERE next.number & 127 <> 1)
                THEN max(next.rise)
                ELSE 0
            END AS stride,
            min(least(next."timestamp", next.previous_ms)) AS first_ms,
            max(greatest(next."timestamp", next.previous_ms)) AS last_ms,
            coalesce(min(least(next.number_value, next.previous_value)), 'Infinity') AS min_value,
            coalesce(max(greatest(next.number_value, next.previous_value)), '-Infinity') AS max_value
        FROM (
            SELECT
                metrics.step, metrics."timestamp", metrics.value, metrics.is_nan,
                row_number() OVER by_step - 1 AS number,
                lag(metrics."timestamp") OVER by_step AS previous_ms,
                CASE WHEN NOT metrics.is_nan THEN metrics.value END AS number_value,
                lag(CASE WHEN NOT metrics.is_nan THEN metrics.value END) OVER by_step AS previous_value,
                mlops.rise(lag(metrics.step) OVER by_step, metrics.step) AS rise,
                mlops.rise(lag(metrics.step, 2) OVER by_step, lag(metrics.step) OVER by_step)
                    AS previous_rise
            FROM "@mlflow".metrics
            WHERE metrics.run_uuid = run
                AND metrics.key = series.key
                AND metrics."timestamp"
                    BETWEEN extend_marks.first_ms AND extend_marks.last_ms
                AND (metrics.step, metrics."timestamp", metrics.value, metrics.is_nan) >= (
                    coalesce(last.step, -9223372036854775808),
                    coalesce(last."timestamp", -9223372036854775808),
                    coalesce(last.value, '-Infinity'), coalesce(last.is_nan, false)
                )
            WINDOW by_step AS (
                ORDER BY metrics.step, metrics."timestamp", metrics.value, metrics.is_nan
            )
            ORDER BY metrics.step, metrics."timestamp", metrics.value, metrics.is_nan
            LIMIT 4096 + 4 * series.points
        ) AS next
        WHERE next.number > 0
        GROUP BY (next.number + 127) / 128
        HAVING count(*) = 128
    ) AS segment;
END
$$;
