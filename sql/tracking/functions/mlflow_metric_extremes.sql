--! requires: mlflow metrics_rebuild
-- The least and the greatest value of every series that has points, each with the first step that has it; NULL
-- where all points are NaN. Marks hold the extremes of the points up to the last mark, and the points after
-- it are read. What the marks hold is looked up: if no point has the value, points were dropped, and the
-- series is read as a whole (`whole`), as one without marks is (`tail`).
--
-- PostgreSQL inlines the function, so that a condition on run_uuid or key limits what is read. LATERAL
-- parts walk the key of one series each.
CREATE OR REPLACE FUNCTION mlops.mlflow_metric_extremes() RETURNS TABLE (
    run_uuid text, key text,
    min double precision, min_step bigint, max double precision, max_step bigint
) LANGUAGE sql STABLE AS $$
    SELECT
        series.run_uuid::text, series.key::text,
        CASE WHEN first_min.step IS NOT NULL THEN extreme.min ELSE whole.min END,
        coalesce(first_min.step, whole.min_step),
        CASE WHEN first_max.step IS NOT NULL THEN extreme.max ELSE whole.max END,
        coalesce(first_max.step, whole.max_step)
    FROM "@mlflow".latest_metrics AS series
    JOIN mlops.run_ranges AS span ON span.run_uuid = series.run_uuid::text
    LEFT JOIN LATERAL mlops.marked_extremes(series.run_uuid::text, series.key::text) AS marked
        ON true
    LEFT JOIN LATERAL mlops.mark_at(series.run_uuid::text, series.key::text, marked.rank) AS last
        ON true
    CROSS JOIN LATERAL (
        SELECT
            count(*) AS points,
            min(point.value) FILTER (WHERE NOT point.is_nan) AS min,
            max(point.value) FILTER (WHERE NOT point.is_nan) AS max
        FROM "@mlflow".metrics AS point
        WHERE point.run_uuid = series.run_uuid
            AND point.key = series.key
            AND point."timestamp" BETWEEN span.first_ms AND span.last_ms
            AND point.step >= coalesce(last.step, -9223372036854775808)
    ) AS tail
    CROSS JOIN LATERAL (
        SELECT least(marked.min, tail.min) AS min, greatest(marked.max, tail.max) AS max
    ) AS extreme
    LEFT JOIN LATERAL mlops.first_step_of(
        series.run_uuid::text, series.key::text, extreme.min,
        (
            SELECT mark.rank
            FROM mlops.metric_marks AS mark
            WHERE mark.run_uuid = series.run_uuid
                AND mark.key = series.key
                AND mark.min_value = extreme.min
                AND mark.rank <= marked.rank
            ORDER BY mark.rank
            LIMIT 1
        ),
        marked.rank, span.first_ms, span.last_ms
    ) AS first_min (step) ON true
    LEFT JOIN LATERAL mlops.first_step_of(
        series.run_uuid::text, series.key::text, extreme.max,
        (
            SELECT mark.rank
            FROM mlops.metric_marks AS mark
            WHERE mark.run_uuid = series.run_uuid
                AND mark.key = series.key
                AND mark.max_value = extreme.max
                AND mark.rank <= marked.rank
            ORDER BY mark.rank
            LIMIT 1
        ),
        marked.rank, span.first_ms, span.last_ms
    ) AS first_max (step) ON true
    CROSS JOIN LATERAL (
        SELECT
            count(*) AS points,
            min(point.value) FILTER (WHERE NOT point.is_nan) AS min,
            max(point.value) FILTER (WHERE NOT point.is_nan) AS max,
            (array_agg(point.step ORDER BY point.value, point.step) FILTER (WHERE NOT point.is_nan))[1]
                AS min_step,
            (array_agg(point.step ORDER BY point.value DESC, point.step) FILTER (WHERE NOT point.is_nan))[1]
                AS max_step
        FROM "@mlflow".metrics AS point
        WHERE point.run_uuid = series.run_uuid
            AND point.key = series.key
            AND point."timestamp" BETWEEN span.first_ms AND span.last_ms
            -- As a condition of the join it would be checked after the scan.
            AND marked.rank IS NOT NULL
            AND (first_min.step IS NULL OR first_max.step IS NULL)
    ) AS whole
    WHERE whole.points > 0 OR tail.points > 0 OR first_min.step IS NOT NULL
$$;
