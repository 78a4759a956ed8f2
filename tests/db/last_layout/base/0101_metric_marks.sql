--! requires: mlflow metrics_rebuild
-- A B-tree finds a point by its step, not by its rank; charts and pages ask by rank ("every 3125th
-- point", "from the 750,000th on"). Every 128th point of a series is therefore marked with its rank,
-- so that any rank is at most a short walk away from a mark. Whoever inserts, triggers keep it true.

-- In which range of time does a run have points? Reads of one run then open only its own chunks.
-- Ranges are rounded outwards to 2^27 ms (37 hours), so that a running run seldom changes its row.
-- The row is also the lock that orders the writers of one run.
CREATE TABLE mlops.run_ranges (
    run_uuid text PRIMARY KEY,
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL
);

CREATE TABLE mlops.metric_marks (
    run_uuid text NOT NULL,
    key text NOT NULL,
    -- How many points of the series come before this one, by (step, timestamp, value, is_nan)?
    rank bigint NOT NULL,
    step bigint NOT NULL,
    "timestamp" bigint NOT NULL,
    value double precision NOT NULL,
    is_nan boolean NOT NULL,
    -- Are the points since the previous mark in the order of their timestamps, too?
    ordered boolean NOT NULL,
    PRIMARY KEY (run_uuid, key, rank)
);
CREATE INDEX ON mlops.metric_marks (run_uuid, key, step, "timestamp", value, is_nan);
CREATE INDEX ON mlops.metric_marks (run_uuid, key) WHERE NOT ordered;

-- Mark the points after the last mark of each series, as far as about four times what was added.
CREATE FUNCTION mlops.extend_marks(
    run text, keys text[], added bigint[], first_ms bigint, last_ms bigint
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_custom_plan  -- so that the range excludes chunks when it is planned
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
BEGIN
    INSERT INTO mlops.metric_marks (run_uuid, key, rank, step, "timestamp", value, is_nan, ordered)
    SELECT
        run, series.key, point.rank,
        point.step, point."timestamp", point.value, point.is_nan, point.ordered
    FROM unnest(keys, added) AS series (key, points)
    LEFT JOIN LATERAL (
        SELECT mark.rank, mark.step, mark."timestamp", mark.value, mark.is_nan
        FROM mlops.metric_marks AS mark
        WHERE mark.run_uuid = run AND mark.key = series.key
        ORDER BY mark.rank DESC
        LIMIT 1
    ) AS last ON true
    CROSS JOIN LATERAL (
        SELECT
            next.step, next."timestamp", next.value, next.is_nan,
            coalesce(last.rank, 0) - 1 + row_number() OVER in_order AS rank,
            bool_and(next."timestamp" >= next.previous_ms)
                OVER (in_order ROWS BETWEEN 127 PRECEDING AND CURRENT ROW) AS ordered
        FROM (
            SELECT
                metrics.step, metrics."timestamp", metrics.value, metrics.is_nan,
                lag(metrics."timestamp", 1, metrics."timestamp") OVER (
                    ORDER BY metrics.step, metrics."timestamp", metrics.value, metrics.is_nan
                ) AS previous_ms
            FROM metrics
            WHERE metrics.run_uuid = run
                AND metrics.key = series.key
                AND metrics."timestamp" BETWEEN first_ms AND last_ms
                AND (metrics.step, metrics."timestamp", metrics.value, metrics.is_nan) >= (
                    coalesce(last.step, -9223372036854775808),
                    coalesce(last."timestamp", -9223372036854775808),
                    coalesce(last.value, '-Infinity'), coalesce(last.is_nan, false)
                )
            ORDER BY metrics.step, metrics."timestamp", metrics.value, metrics.is_nan
            LIMIT 4096 + 4 * series.points
        ) AS next
        WINDOW in_order AS (ORDER BY next.step, next."timestamp", next.value, next.is_nan)
    ) AS point
    WHERE point.rank % 128 = 0 AND point.rank > coalesce(last.rank, 0);
END
$$;

-- Cheap on nearly every call: the series whose marks are extended are those that got many points,
-- and of the others one in 128, by a hash.
CREATE FUNCTION mlops.index_new_points() RETURNS trigger LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    grown record;
BEGIN
    INSERT INTO mlops.run_ranges AS known (run_uuid, first_ms, last_ms)
    SELECT run_uuid, min("timestamp") & -134217728, max("timestamp") | 134217727
    FROM fresh
    GROUP BY run_uuid
    ORDER BY run_uuid
    ON CONFLICT (run_uuid) DO UPDATE SET
        first_ms = least(known.first_ms, excluded.first_ms),
        last_ms = greatest(known.last_ms, excluded.last_ms)
    WHERE excluded.first_ms < known.first_ms OR excluded.last_ms > known.last_ms;

    DELETE FROM mlops.metric_marks AS mark
    USING (
        SELECT DISTINCT ON (run_uuid, key) run_uuid, key, step, "timestamp", value, is_nan
        FROM fresh
        ORDER BY run_uuid, key, step, "timestamp", value, is_nan
    ) AS lowest
    WHERE mark.run_uuid = lowest.run_uuid
        AND mark.key = lowest.key
        AND (mark.step, mark."timestamp", mark.value, mark.is_nan)
            > (lowest.step, lowest."timestamp", lowest.value, lowest.is_nan);

    FOR grown IN
        SELECT
            series.run_uuid, array_agg(series.key) AS keys, array_agg(series.points) AS points,
            min(known.first_ms) AS first_ms, max(known.last_ms) AS last_ms
        FROM (
            SELECT run_uuid, key, count(*) AS points
            FROM fresh
            GROUP BY run_uuid, key
            HAVING count(*) >= 128
                OR bool_or((hashtext(key) # hashint8(step) # hashint8("timestamp")) & 127 = 0)
        ) AS series
        JOIN mlops.run_ranges AS known USING (run_uuid)
        GROUP BY series.run_uuid
    LOOP
        PERFORM mlops.extend_marks(
            grown.run_uuid::text, grown.keys::text[], grown.points, grown.first_ms, grown.last_ms
        );
    END LOOP;
    RETURN NULL;
END
$$;

CREATE TRIGGER mlops_index_new_points AFTER INSERT ON metrics
    REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION mlops.index_new_points();

CREATE FUNCTION mlops.forget_deleted_runs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM mlops.metric_marks WHERE run_uuid IN (SELECT run_uuid FROM gone);
    DELETE FROM mlops.run_ranges WHERE run_uuid IN (SELECT run_uuid FROM gone);
    RETURN NULL;
END
$$;

CREATE TRIGGER mlops_forget_deleted_runs AFTER DELETE ON runs
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION mlops.forget_deleted_runs();

-- Mark one run anew: for points that were there before the trigger, or after points were removed.
CREATE FUNCTION mlops.mark_run(run text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    known mlops.run_ranges;
BEGIN
    DELETE FROM mlops.metric_marks WHERE run_uuid = run;
    DELETE FROM mlops.run_ranges WHERE run_uuid = run;
    INSERT INTO mlops.run_ranges (run_uuid, first_ms, last_ms)
    SELECT run, min("timestamp") & -134217728, max("timestamp") | 134217727
    FROM metrics
    WHERE run_uuid = run
    HAVING count(*) > 0
    RETURNING * INTO known;
    PERFORM mlops.extend_marks(
        run, array_agg(series.key::text), array_agg(series.points), known.first_ms, known.last_ms
    )
    FROM (SELECT key, count(*) AS points FROM metrics WHERE run_uuid = run GROUP BY key) AS series
    HAVING count(*) > 0;
END
$$;

SELECT mlops.mark_run(run_uuid) FROM (SELECT DISTINCT run_uuid FROM metrics) AS earlier;
