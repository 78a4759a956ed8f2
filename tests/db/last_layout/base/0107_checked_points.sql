--! requires: mlflow metrics_rebuild
-- Does every point's run exist? MLflow's foreign key asks for each point, and deleting a run asks every
-- chunk. The trigger on `metrics` asks once for all points of a statement instead, and one on `runs`
-- refuses to leave points behind: the same guarantee and the same errors. A writer locks the run's row
-- as a foreign key does (FOR KEY SHARE), so whoever deletes the run waits for it, and then sees its points.
ALTER TABLE metrics DROP CONSTRAINT metrics_run_uuid_fkey;

-- Once a statement, and cheap on nearly every one: one pass over what is new, by series. Marks are
-- extended for the series that got many points, and of the others one in 512, by a hash.
CREATE OR REPLACE FUNCTION mlops.index_new_points() RETURNS trigger LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    series record;
    run record;
BEGIN
    SELECT
        array_agg(grown.run_uuid) AS runs, array_agg(grown.key) AS keys,
        array_agg(grown.points) AS points, array_agg(grown.step) AS steps,
        array_agg(grown.first_ms) AS firsts, array_agg(grown.last_ms) AS lasts,
        array_agg(grown.due) AS dues
    INTO series
    FROM (
        SELECT
            run_uuid::text, key::text, count(*) AS points, min(step) AS step,
            min("timestamp") AS first_ms, max("timestamp") AS last_ms,
            count(*) >= 512
                OR bool_or((hashtext(key) # hashint8(step) # hashint8("timestamp")) & 511 = 0) AS due
        FROM fresh
        GROUP BY run_uuid, key
    ) AS grown;

    FOR run IN
        SELECT
            of_run.id, min(of_run.first_ms) & -134217728 AS first_ms,
            max(of_run.last_ms) | 134217727 AS last_ms, bool_or(of_run.due) AS due
        FROM unnest(series.runs, series.firsts, series.lasts, series.dues)
            AS of_run (id, first_ms, last_ms, due)
        GROUP BY of_run.id
        ORDER BY of_run.id
    LOOP
        PERFORM FROM runs WHERE runs.run_uuid = run.id FOR KEY SHARE;
        IF NOT FOUND THEN
            RAISE foreign_key_violation USING
                MESSAGE = 'insert or update on table "metrics" violates foreign key constraint "metrics_run_uuid_fkey"',
                DETAIL = format('Key (run_uuid)=(%s) is not present in table "runs".', run.id),
                TABLE = 'metrics', CONSTRAINT = 'metrics_run_uuid_fkey';
        END IF;
        INSERT INTO mlops.run_ranges AS known (run_uuid, first_ms, last_ms)
        VALUES (run.id, run.first_ms, run.last_ms)
        ON CONFLICT (run_uuid) DO UPDATE SET
            first_ms = least(known.first_ms, excluded.first_ms),
            last_ms = greatest(known.last_ms, excluded.last_ms)
        WHERE excluded.first_ms < known.first_ms OR excluded.last_ms > known.last_ms;
    END LOOP;

    -- Marks that a new point comes before: the least of a series is not below (its step, its time).
    -- Hardly ever are there any: one look at the last mark of each series, by rank, whatever the
    -- statistics say.
    WITH overtaken AS MATERIALIZED (
        SELECT lowest.run_uuid, lowest.key, lowest.step, lowest.ms
        FROM unnest(series.runs, series.keys, series.steps, series.firsts)
            AS lowest (run_uuid, key, step, ms)
        CROSS JOIN LATERAL (
            SELECT mark.step, mark."timestamp" AS ms
            FROM mlops.metric_marks AS mark
            WHERE mark.run_uuid = lowest.run_uuid AND mark.key = lowest.key
            ORDER BY mark.rank DESC
            LIMIT 1
        ) AS last
        WHERE (last.step, last.ms) >= (lowest.step, lowest.ms)
    )
    DELETE FROM mlops.metric_marks AS mark
    USING overtaken
    WHERE mark.run_uuid = overtaken.run_uuid
        AND mark.key = overtaken.key
        AND (mark.step, mark."timestamp") >= (overtaken.step, overtaken.ms);

    IF true = ANY (series.dues) THEN
        PERFORM mlops.extend_marks(due.run_uuid, due.keys, due.points, known.first_ms, known.last_ms)
        FROM (
            SELECT
                every.run_uuid, array_agg(every.key) AS keys, array_agg(every.points) AS points
            FROM unnest(series.runs, series.keys, series.points, series.dues)
                AS every (run_uuid, key, points, due)
            WHERE every.due
            GROUP BY every.run_uuid
        ) AS due
        JOIN mlops.run_ranges AS known USING (run_uuid);
    END IF;
    RETURN NULL;
END
$$;

-- Mark the points after the last mark of each series, as far as about four times what was added.
CREATE OR REPLACE FUNCTION mlops.extend_marks(
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
            coalesce(last.rank, 0) - 1 + next.number AS rank,
            bool_and(next.rising) OVER (
                ORDER BY next.step, next."timestamp", next.value, next.is_nan
                ROWS BETWEEN 127 PRECEDING AND CURRENT ROW
            ) AS ordered
        FROM (
            SELECT
                metrics.step, metrics."timestamp", metrics.value, metrics.is_nan,
                row_number() OVER by_step AS number,
                metrics."timestamp"
                    >= lag(metrics."timestamp", 1, metrics."timestamp") OVER by_step AS rising
            FROM metrics
            WHERE metrics.run_uuid = run
                AND metrics.key = series.key
                AND metrics."timestamp" BETWEEN first_ms AND last_ms
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
    ) AS point
    WHERE point.rank % 128 = 0 AND point.rank > coalesce(last.rank, 0);
END
$$;

-- Refuse that a run goes while it has points, as a foreign key does.
CREATE FUNCTION mlops.refuse_orphans(run text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    known mlops.run_ranges;
BEGIN
    SELECT * INTO known FROM mlops.run_ranges WHERE run_uuid = run;
    IF EXISTS (
        SELECT FROM metrics
        WHERE run_uuid = run AND "timestamp" BETWEEN known.first_ms AND known.last_ms
    ) THEN
        RAISE foreign_key_violation USING
            MESSAGE = 'update or delete on table "runs" violates foreign key constraint "metrics_run_uuid_fkey" on table "metrics"',
            DETAIL = format('Key (run_uuid)=(%s) is still referenced from table "metrics".', run),
            TABLE = 'metrics', CONSTRAINT = 'metrics_run_uuid_fkey';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION mlops.forget_deleted_runs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Points that were written since the snapshot would not be seen.
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE feature_not_supported USING
            MESSAGE = 'runs are deleted in READ COMMITTED transactions only';
    END IF;
    PERFORM mlops.refuse_orphans(run_uuid) FROM gone;
    DELETE FROM mlops.metric_marks WHERE run_uuid IN (SELECT run_uuid FROM gone);
    DELETE FROM mlops.run_ranges WHERE run_uuid IN (SELECT run_uuid FROM gone);
    RETURN NULL;
END
$$;

-- What nobody does, and a foreign key would refuse all the same.
CREATE FUNCTION mlops.keep_points() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' AND EXISTS (SELECT FROM metrics) OR TG_TABLE_NAME <> 'runs' THEN
        RAISE foreign_key_violation USING
            MESSAGE = format('the runs of points in table "metrics" do not change (%s)', TG_OP),
            TABLE = 'metrics', CONSTRAINT = 'metrics_run_uuid_fkey';
    ELSIF TG_OP = 'UPDATE' THEN
        PERFORM mlops.refuse_orphans(OLD.run_uuid);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER mlops_keep_points_renamed AFTER UPDATE OF run_uuid ON runs
    FOR EACH ROW WHEN (NEW.run_uuid <> OLD.run_uuid) EXECUTE FUNCTION mlops.keep_points();
CREATE TRIGGER mlops_keep_points_truncated AFTER TRUNCATE ON runs
    FOR EACH STATEMENT EXECUTE FUNCTION mlops.keep_points();
CREATE TRIGGER mlops_keep_points_moved AFTER UPDATE OF run_uuid ON metrics
    FOR EACH ROW WHEN (NEW.run_uuid <> OLD.run_uuid) EXECUTE FUNCTION mlops.keep_points();
