--! requires: mlflow metrics_rebuild
-- A sample of a series between two steps (inclusive; NULL: from its first, to its last), evenly
-- spread by rank, without an order. The points are those that MLflow picks: it numbers all
-- (NTILE), and keeps the first of each bucket and the last of all.
--
-- Where steps rise evenly between two marks, the step of every rank is arithmetic, and the index
-- leads to it at once. Row comparisons do not reach into compressed chunks, comparisons of one
-- column do: where marks allow one, it stands beside the row comparison, so that few batches are
-- decompressed. The planner settings keep index scans in every plan: one sequential scan of a
-- chunk per point takes seconds.
CREATE OR REPLACE FUNCTION mlops.sample_points(
    run text, series text, buckets bigint, from_step numeric, to_step numeric
) RETURNS TABLE (value float8, ms bigint, step bigint, is_nan boolean) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_custom_plan
SET jit = off
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_material = off
SET enable_sort = off
AS $$
DECLARE
    least_step CONSTANT numeric := -9223372036854775808;
    greatest_step CONSTANT numeric := 9223372036854775807;
    shape record;
    mark mlops.metric_marks;
    first bigint := 0;  -- the first rank between the steps
    after bigint;  -- the first one after them
    ranks bigint[];
    tail bigint[];  -- those that no mark follows
    even bigint[];  -- the steps of those that steps rise evenly to
    uneven bigint[];
BEGIN
    SELECT * INTO shape FROM mlops.measure(run, series);
    after := shape.points;
    IF from_step > least_step THEN
        first := CASE
            WHEN from_step > greatest_step THEN after
            ELSE mlops.points_before(
                run, series, from_step::bigint, shape.marked, shape.first_ms, shape.last_ms
            )
        END;
    END IF;
    IF to_step < greatest_step THEN
        after := CASE
            WHEN to_step < least_step THEN 0
            ELSE mlops.points_before(
                run, series, (to_step + 1)::bigint, shape.marked, shape.first_ms, shape.last_ms
            )
        END;
    END IF;
    ranks := mlops.sampled_ranks(first, after, buckets);

    tail := ARRAY(SELECT rank FROM unnest(ranks) AS rank WHERE rank > shape.marked OR shape.marked = 0);
    IF cardinality(tail) > 0 THEN
        SELECT * INTO mark FROM mlops.mark_at(run, series, shape.marked);
        RETURN QUERY
        SELECT point.value, point.ms, point.step, point.is_nan
        FROM (
            SELECT
                metrics.value, metrics."timestamp" AS ms, metrics.step, metrics.is_nan,
                shape.marked - 1 + row_number() OVER (
                    ORDER BY metrics.step, metrics."timestamp", metrics.value, metrics.is_nan
                ) AS rank
            FROM "@mlflow".metrics
            WHERE metrics.run_uuid = run
                AND metrics.key = series
                AND metrics."timestamp" BETWEEN shape.first_ms AND shape.last_ms
                AND (metrics.step, metrics."timestamp", metrics.value, metrics.is_nan) >= (
                    coalesce(mark.step, -9223372036854775808),
                    coalesce(mark."timestamp", -9223372036854775808),
                    coalesce(mark.value, '-Infinity'), coalesce(mark.is_nan, false)
                )
                AND (coalesce(mark.stride, 0) = 0 OR metrics.step >= mark.step)
        ) AS point
        WHERE point.rank = ANY(tail);
    END IF;
    IF shape.marked = 0 THEN
        RETURN;
    END IF;

    RETURN QUERY
    SELECT own.value, own."timestamp", own.step, own.is_nan
    FROM unnest(ranks) AS wanted (rank), mlops.mark_at(run, series, wanted.rank) AS own
    WHERE wanted.rank & 127 = 0 AND wanted.rank <= shape.marked;

    SELECT
        array_agg(next.step - (next.rank - wanted.rank) * next.stride) FILTER (WHERE next.stride > 0),
        array_agg(wanted.rank) FILTER (WHERE next.stride = 0)
    INTO even, uneven
    FROM
        unnest(ranks) AS wanted (rank),
        mlops.mark_at(run, series, (wanted.rank | 127) + 1) AS next
    WHERE wanted.rank < shape.marked AND (wanted.rank = 0 OR wanted.rank & 127 > 0);
    IF even IS NOT NULL THEN
        RETURN QUERY
        SELECT metrics.value, metrics."timestamp", metrics.step, metrics.is_nan
        FROM "@mlflow".metrics
        WHERE metrics.run_uuid = run
            AND metrics.key = series
            AND metrics."timestamp" BETWEEN shape.first_ms AND shape.last_ms
            AND metrics.step = ANY(even);
    END IF;
    IF uneven IS NOT NULL THEN
        RETURN QUERY
        SELECT point.value, point.ms, point.step, point.is_nan
        FROM unnest(uneven) AS wanted (rank)
        CROSS JOIN LATERAL mlops.mark_at(run, series, (wanted.rank | 127) + 1) AS next
        LEFT JOIN LATERAL mlops.mark_at(run, series, wanted.rank) AS previous ON true
        CROSS JOIN LATERAL (
            SELECT
                coalesce(next.first_ms, shape.first_ms) AS first_ms,
                coalesce(next.last_ms, shape.last_ms) AS last_ms
            OFFSET 0
        ) AS between_times
        CROSS JOIN LATERAL (
            SELECT metrics.value, metrics."timestamp" AS ms, metrics.step, metrics.is_nan
            FROM "@mlflow".metrics
            WHERE metrics.run_uuid = run
                AND metrics.key = series
                AND metrics."timestamp" BETWEEN shape.first_ms AND shape.last_ms
                AND metrics."timestamp" >= between_times.first_ms
                AND metrics."timestamp" <= between_times.last_ms
                AND (metrics.step, metrics."timestamp", metrics.value, metrics.is_nan)
                    <= (next.step, next."timestamp", next.value, next.is_nan)
                AND (metrics.step, metrics."timestamp", metrics.value, metrics.is_nan) >= (
                    coalesce(previous.step, -9223372036854775808),
                    coalesce(previous."timestamp", -9223372036854775808),
                    coalesce(previous.value, '-Infinity'), coalesce(previous.is_nan, false)
                )
            ORDER BY
                metrics.step DESC, metrics."timestamp" DESC, metrics.value DESC, metrics.is_nan DESC
            LIMIT 1
            OFFSET next.rank - wanted.rank
        ) AS point;
    END IF;
END
$$;
