--! requires: mlflow metrics_rebuild
-- Let points of a run change its generated metrics: "key/min" and "key/max" in latest_metrics, at the first step
-- that has the value. The caller holds the run's lock. A metric that a user logs under such a name is the user's from
-- then on; one that was there before stays as it is. MLflow's names have at most 250 characters.
CREATE OR REPLACE FUNCTION mlops.raise_extremes(
    run text, keys text[], points float8[], timestamps bigint[], steps bigint[], nans boolean[]
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    best record;
BEGIN
    WITH taken AS (
        DELETE FROM mlops.generated_metrics AS generated
        WHERE generated.run_uuid = run AND generated.key = ANY (keys)
        RETURNING generated.key
    )
    DELETE FROM "@mlflow".latest_metrics AS latest
    USING taken
    WHERE latest.run_uuid = run AND latest.key = taken.key;

    SELECT
        array_agg(each.name) AS names, array_agg(each.value) AS points,
        array_agg(each.ms) AS timestamps, array_agg(each.step) AS steps
    INTO best
    FROM (
        SELECT
            point.key || '/min' AS name, point.value, point.ms, point.step,
            row_number() OVER (PARTITION BY point.key ORDER BY point.value, point.step, point.ms) AS place
        FROM unnest(keys, points, timestamps, steps, nans) AS point (key, value, ms, step, is_nan)
        WHERE NOT point.is_nan
        UNION ALL
        SELECT
            point.key || '/max', point.value, point.ms, point.step,
            row_number() OVER (PARTITION BY point.key ORDER BY point.value DESC, point.step, point.ms)
        FROM unnest(keys, points, timestamps, steps, nans) AS point (key, value, ms, step, is_nan)
        WHERE NOT point.is_nan
    ) AS each
    WHERE each.place = 1 AND length(each.name) <= 250;

    INSERT INTO mlops.generated_metrics (run_uuid, key)
    SELECT run, each.name
    FROM unnest(best.names) AS each (name)
    WHERE each.name <> ALL (keys)
        AND NOT EXISTS (
            SELECT FROM "@mlflow".latest_metrics AS latest
            WHERE latest.run_uuid = run AND latest.key = each.name
        )
    ORDER BY each.name
    ON CONFLICT DO NOTHING;

    INSERT INTO "@mlflow".latest_metrics AS latest (run_uuid, key, value, "timestamp", step, is_nan)
    SELECT run, each.name, each.value, each.ms, each.step, false
    FROM unnest(best.names, best.points, best.timestamps, best.steps) AS each (name, value, ms, step)
    JOIN mlops.generated_metrics AS generated
        ON generated.run_uuid = run AND generated.key = each.name
    ORDER BY each.name
    ON CONFLICT (key, run_uuid) DO UPDATE SET
        value = excluded.value,
        "timestamp" = excluded."timestamp",
        step = excluded.step
    WHERE CASE
        WHEN excluded.value = latest.value THEN excluded.step < latest.step
        WHEN right(excluded.key, 4) = '/min' THEN excluded.value < latest.value
        ELSE excluded.value > latest.value
    END;
END
$$;
