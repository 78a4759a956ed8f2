--! requires: mlflow metrics_rebuild
-- Keep ranges and marks up to date. It runs once per statement and is cheap for nearly all: one
-- pass over the new points, by series. Marks are extended for series that received many points,
-- and for one in 512 of the others, chosen by a hash. The generic plan with index scans holds for
-- every size of a statement: statistics of a table that grows are always old.
CREATE OR REPLACE FUNCTION mlops.index_new_points() RETURNS trigger LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    series record;
    run record;
    shows_extremes boolean;
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
        -- One statement for both: a second one would cost every write.
        SELECT (
            SELECT setting.is_on
            FROM mlops.extremes_setting AS setting
            WHERE setting.experiment_id IN (runs.experiment_id, -1)
            ORDER BY setting.experiment_id DESC
            LIMIT 1
        ) INTO shows_extremes
        FROM "@mlflow".runs WHERE runs.run_uuid = run.id FOR KEY SHARE;
        IF NOT FOUND THEN
            RAISE foreign_key_violation USING
                MESSAGE = 'insert or update on table "metrics" violates foreign key constraint "metrics_run_uuid_fkey"',
                DETAIL = format('Key (run_uuid)=(%s) is not present in table "runs".', run.id),
                TABLE = 'metrics', CONSTRAINT = 'metrics_run_uuid_fkey';
        END IF;
        INSERT INTO mlops.run_ranges AS known (run_uuid, first_ms, last_ms, written_on)
        VALUES (run.id, run.first_ms, run.last_ms, (now() AT TIME ZONE 'UTC')::date)
        ON CONFLICT (run_uuid) DO UPDATE SET
            first_ms = least(known.first_ms, excluded.first_ms),
            last_ms = greatest(known.last_ms, excluded.last_ms),
            written_on = excluded.written_on
        WHERE excluded.first_ms < known.first_ms
            OR excluded.last_ms > known.last_ms
            OR known.written_on IS DISTINCT FROM excluded.written_on;
        IF shows_extremes THEN
            PERFORM mlops.raise_extremes(
                run.id, array_agg(fresh.key::text), array_agg(fresh.value),
                array_agg(fresh."timestamp"), array_agg(fresh.step), array_agg(fresh.is_nan)
            )
            FROM fresh
            WHERE fresh.run_uuid = run.id;
        END IF;
    END LOOP;

    -- Remove marks that a new point precedes. They are rare, so one look at the last mark of each
    -- series, by rank, decides; (least step, least time) is a lower bound for the new points.
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

CREATE OR REPLACE TRIGGER mlops_index_new_points AFTER INSERT ON "@mlflow".metrics
    REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION mlops.index_new_points();
