-- Extremes as metrics of MLflow: settings, and metrics that are generated.

-- name: is_ready
-- Does this schema have the settings of extremes?
SELECT to_regclass('mlops.extremes_setting') IS NOT NULL;

-- name: lock_metrics
-- Wait for writes that have begun, so that every later write reads the new setting.
LOCK TABLE metrics IN SHARE ROW EXCLUSIVE MODE;

-- name: clear_settings
-- Remove all settings.
DELETE FROM mlops.extremes_setting;

-- name: set_all
-- Show extremes in every experiment, also in future ones.
INSERT INTO mlops.extremes_setting (experiment_id, is_on) VALUES (-1, true);

-- name: set_experiments
-- Set experiments; their setting overrides that of all.
INSERT INTO mlops.extremes_setting (experiment_id, is_on)
SELECT id, %(is_on)s FROM unnest(%(experiments)s::integer[]) AS id
ON CONFLICT (experiment_id) DO UPDATE SET is_on = excluded.is_on;

-- name: settings
-- All settings with the names of experiments; the setting of all others comes first.
SELECT experiments.name::text AS experiment, setting.is_on
FROM mlops.extremes_setting AS setting
LEFT JOIN experiments USING (experiment_id)
WHERE setting.experiment_id = -1 OR experiments.experiment_id IS NOT NULL
ORDER BY setting.experiment_id;

-- name: runs
-- The runs with points, of some experiments or of all.
SELECT runs.run_uuid::text
FROM runs
JOIN mlops.run_ranges USING (run_uuid)
WHERE %(experiments)s::integer[] IS NULL OR experiment_id = ANY (%(experiments)s::integer[])
ORDER BY 1;

-- name: generated_runs
-- The runs for which metrics were generated.
SELECT DISTINCT generated.run_uuid
FROM mlops.generated_metrics AS generated
JOIN runs USING (run_uuid)
WHERE %(experiments)s::integer[] IS NULL OR experiment_id = ANY (%(experiments)s::integer[])
ORDER BY 1;

-- name: show
-- Generate the extremes of some runs.
SELECT mlops.show_extremes(%(runs)s::text[]);

-- name: hide
-- Remove the generated metrics of some runs.
SELECT mlops.hide_extremes(%(runs)s::text[]);

-- name: would_show
-- How many generated metrics would some runs have, including present ones?
SELECT count(*)
FROM unnest(%(runs)s::text[]) AS chosen (run_uuid)
JOIN mlops.metric_extremes AS extreme USING (run_uuid)
CROSS JOIN LATERAL (VALUES (extreme.key || '/min'), (extreme.key || '/max')) AS generated (key)
WHERE extreme.min IS NOT NULL
    AND length(generated.key) <= 250
    AND NOT EXISTS (
        SELECT FROM latest_metrics AS latest
        WHERE latest.run_uuid = chosen.run_uuid AND latest.key = generated.key
            AND NOT EXISTS (
                SELECT FROM mlops.generated_metrics AS ours
                WHERE ours.run_uuid = chosen.run_uuid AND ours.key = generated.key
            )
    );

-- name: would_hide
-- How many metrics were generated for some runs?
SELECT count(*) FROM mlops.generated_metrics WHERE run_uuid = ANY (%(runs)s::text[]);
