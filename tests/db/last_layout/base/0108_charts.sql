--! requires: mlflow metrics_rebuild
-- A chart is one call of the database, and finds most of its points by arithmetic: where steps rise evenly
-- between two marks, the step of every rank between them is known, and the index leads to it at once.
-- Row comparisons do not reach into compressed chunks, comparisons of one column do: wherever marks allow
-- one, it stands beside the row comparison, and only a few batches are decompressed. (Steps that repeat
-- allow none on the step: the index would begin with the first of them.)
ALTER TABLE mlops.metric_marks
    -- How far apart are the steps, from the previous mark to this one? 0: not evenly, or not known.
    ADD COLUMN stride bigint NOT NULL DEFAULT 0,
    -- Between which times do those points lie? NULL: not known.
    ADD COLUMN first_ms bigint,
    ADD COLUMN last_ms bigint;

-- The last mark up to a rank: by the index of ranks, whatever the statistics say, because of the order.
-- PostgreSQL inlines it.
CREATE FUNCTION mlops.mark_at(run text, series text, at bigint) RETURNS SETOF mlops.metric_marks
LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT *
    FROM mlops.metric_marks
    WHERE run_uuid = run AND key = series AND rank <= at
    ORDER BY rank DESC
    LIMIT 1
$$;

-- Does a trigger on `metrics` see every point of these times? (0110 says no.)
CREATE FUNCTION mlops.sees_every_point(first_ms bigint, last_ms bigint) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$ SELECT true $$;

-- Mark the points after the last mark of each series, as far as about four times what was added.
CREATE OR REPLACE FUNCTION mlops.extend_marks(
    run text, keys text[], added bigint[], first_ms bigint, last_ms bigint
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_custom_plan  -- so that the range excludes chunks when it is planned
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
BEGIN
    -- Marks of what is not seen would be wrong; points without marks are only slower to find.
    IF NOT mlops.sees_every_point(first_ms, last_ms) THEN
        RETURN;
    END IF;
    INSERT INTO mlops.metric_marks (
        run_uuid, key, rank, step, "timestamp", value, is_nan, ordered, stride, first_ms, last_ms
    )
    SELECT
        run, series.key, coalesce(last.rank, 0) + segment.number,
        segment.step, segment."timestamp", segment.value, segment.is_nan,
        segment.ordered, segment.stride, segment.first_ms, segment.last_ms
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
            -- The first has nothing before it to rise as much as.
            CASE
                WHEN bool_and(coalesce(next.rise = next.previous_rise, false))
                    FILTER (WHERE next.number & 127 <> 1)
                THEN max(next.rise)
                ELSE 0
            END AS stride,
            min(least(next."timestamp", next.previous_ms)) AS first_ms,
            max(greatest(next."timestamp", next.previous_ms)) AS last_ms
        FROM (
            SELECT
                metrics.step, metrics."timestamp", metrics.value, metrics.is_nan,
                row_number() OVER by_step - 1 AS number,
                lag(metrics."timestamp") OVER by_step AS previous_ms,
                mlops.rise(lag(metrics.step) OVER by_step, metrics.step) AS rise,
                mlops.rise(lag(metrics.step, 2) OVER by_step, lag(metrics.step) OVER by_step)
                    AS previous_rise
            FROM metrics
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

-- From one step to the next; NULL where 64 bits might not hold it.
CREATE FUNCTION mlops.rise(from_step bigint, to_step bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN from_step > -4000000000000000000 AND to_step < 4000000000000000000
        THEN to_step - from_step
    END
$$;

-- How long is a series, how far do its marks reach, are its timestamps in the order of its steps, and in
-- which range of time does its run have points (NULL: it has none)? Marks that points were dropped from
-- under do not count.
CREATE FUNCTION mlops.measure(
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
        SELECT FROM metrics
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
        FROM metrics
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

-- How many points of a series lie before a step? Its marks count as far as `marked`.
CREATE FUNCTION mlops.points_before(
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
    FROM metrics
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

-- At most so many points of a series between two steps (inclusive; NULL: from its first, to its last),
-- evenly spread by rank. They are those that MLflow picks: it numbers all (NTILE), and keeps the first of
-- each bucket and the last of all. In no order.
CREATE FUNCTION mlops.sample_points(
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
            FROM metrics
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
        FROM metrics
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
            FROM metrics
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

-- The ranks that MLflow's sample of the ranks from `first` to before `after` has.
CREATE FUNCTION mlops.sampled_ranks(first bigint, after bigint, buckets bigint) RETURNS bigint[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN after - first <= buckets THEN ARRAY(SELECT generate_series(first, after - 1))
        ELSE ARRAY(
            SELECT
                first + bucket * ((after - first) / buckets) + least(bucket, (after - first) % buckets)
            FROM generate_series(0, buckets - 2) AS bucket
        ) || (after - 1)
    END
$$;
