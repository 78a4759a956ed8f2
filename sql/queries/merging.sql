-- Adding what another MLflow holds to a database that is in use.

-- name: has_memory
-- Has the schema the table of what was brought?
SELECT to_regclass('mlops.brought_runs') IS NOT NULL;

-- name: remembered
-- What did the sources of these runs hold when they were last brought?
SELECT run_uuid, mark FROM mlops.brought_runs;

-- name: stages
-- Which of these runs are here, and which of them are deleted?
SELECT run_uuid, lifecycle_stage FROM runs WHERE run_uuid = ANY (%(runs)s);

-- name: remembered_tags
-- Which tags did these runs have when they were last brought?
SELECT run_uuid, tags FROM mlops.brought_runs WHERE run_uuid = ANY (%(runs)s);

-- name: remember
-- Keep what the source of a run held.
INSERT INTO mlops.brought_runs (run_uuid, mark, status, tags)
SELECT * FROM unnest(%(runs)s::text[], %(marks)s::text[], %(statuses)s::text[], %(tags)s::jsonb[])
ON CONFLICT (run_uuid) DO UPDATE SET
    mark = excluded.mark, status = excluded.status, tags = excluded.tags,
    brought_at = clock_timestamp();

-- name: experiments_here
-- The experiments of this database by workspace and name.
SELECT workspace, name, experiment_id, lifecycle_stage, artifact_location FROM experiments;

-- name: add_workspace
-- A workspace that experiments name.
INSERT INTO workspaces (name) VALUES (%(name)s) ON CONFLICT DO NOTHING;

-- name: add_experiment
-- Make an experiment: the default one with its id of 0, any other with the next free id.
INSERT INTO experiments (
    experiment_id, name, workspace, artifact_location, lifecycle_stage, creation_time,
    last_update_time)
VALUES (
    coalesce(%(id)s, nextval(pg_get_serial_sequence('experiments', 'experiment_id'))), %(name)s, %(workspace)s, %(artifact_location)s, %(lifecycle_stage)s, %(creation_time)s,
    %(last_update_time)s)
RETURNING experiment_id;

-- name: add_experiment_tags
-- Add the tags that an experiment does not have yet.
INSERT INTO experiment_tags (experiment_id, key, value)
SELECT %(id)s, * FROM unnest(%(keys)s::text[], %(vals)s::text[])
ON CONFLICT DO NOTHING;

-- name: different_experiment_tags
-- Which tags of an experiment have another value here?
SELECT given.key FROM unnest(%(keys)s::text[], %(vals)s::text[]) AS given (key, value)
JOIN experiment_tags AS tag ON tag.experiment_id = %(id)s AND tag.key = given.key
WHERE tag.value IS DISTINCT FROM given.value ORDER BY given.key;

-- name: make_stage
-- Room for the rows of a table, before they are compared.
CREATE TEMP TABLE IF NOT EXISTS {stage} (LIKE {table});

-- name: clear_stage
-- Make the room empty.
TRUNCATE {stage};

-- name: copy_in
-- Take rows.
COPY {table} ({columns}) FROM STDIN;

-- name: drop_staged_runs
-- Leave out what belongs to runs with conflicts.
DELETE FROM {stage} WHERE run_uuid = ANY (%(runs)s);

-- name: changed_params
-- Which params have another value here? MLflow refuses to change one.
SELECT given.run_uuid, given.key, params.value, given.value
FROM pg_temp.incoming_params AS given
JOIN params ON params.run_uuid = given.run_uuid AND params.key = given.key
WHERE params.value IS DISTINCT FROM given.value
ORDER BY given.run_uuid, given.key;

-- name: different_tags
-- Which tags of these runs have another value here?
SELECT given.run_uuid, given.key
FROM pg_temp.incoming_tags AS given
JOIN tags ON tags.run_uuid = given.run_uuid AND tags.key = given.key
WHERE tags.value IS DISTINCT FROM given.value AND given.run_uuid <> ALL (%(overwritten)s)
ORDER BY given.run_uuid, given.key;

-- name: add_params
-- Add the params that are not here.
WITH changed AS (
    INSERT INTO params (run_uuid, key, value)
    SELECT run_uuid, key, value FROM pg_temp.incoming_params ORDER BY run_uuid, key
    ON CONFLICT DO NOTHING
    RETURNING run_uuid
)
SELECT run_uuid, count(*) FROM changed GROUP BY run_uuid;

-- name: add_tags
-- Add the tags that are not here.
WITH changed AS (
    INSERT INTO tags (run_uuid, key, value)
    SELECT run_uuid, key, value FROM pg_temp.incoming_tags ORDER BY run_uuid, key
    ON CONFLICT DO NOTHING
    RETURNING run_uuid
)
SELECT run_uuid, count(*) FROM changed GROUP BY run_uuid;

-- name: set_tags
-- Set the tags that changed in the source since they were last brought: the last value holds.
WITH changed AS (
    UPDATE tags SET value = given.value
    FROM pg_temp.incoming_tags AS given
    WHERE tags.run_uuid = given.run_uuid AND tags.key = given.key
        AND given.run_uuid = ANY (%(overwritten)s) AND tags.value IS DISTINCT FROM given.value
    RETURNING tags.run_uuid
)
SELECT run_uuid, count(*) FROM changed GROUP BY run_uuid;

-- name: rename_runs
-- The tag mlflow.runName is the name of a run.
UPDATE runs SET name = tags.value
FROM pg_temp.incoming_tags AS given
JOIN tags ON tags.run_uuid = given.run_uuid AND tags.key = given.key
WHERE given.key = 'mlflow.runName' AND runs.run_uuid = given.run_uuid AND runs.name <> tags.value;

-- name: add_points
-- Add the points that are not here.
WITH changed AS (
    INSERT INTO metrics (run_uuid, key, value, "timestamp", step, is_nan)
    SELECT run_uuid, key, value, "timestamp", step, is_nan
    FROM pg_temp.incoming_metrics
    ORDER BY run_uuid, key, step, "timestamp"
    ON CONFLICT DO NOTHING
    RETURNING run_uuid
)
SELECT run_uuid, count(*) FROM changed GROUP BY run_uuid;

-- name: raise_latest
-- The last point of each series, in the order of MLflow.
INSERT INTO latest_metrics AS latest (run_uuid, key, value, "timestamp", step, is_nan)
SELECT run_uuid, key, value, "timestamp", step, is_nan
FROM pg_temp.incoming_latest_metrics ORDER BY run_uuid, key
ON CONFLICT (key, run_uuid) DO UPDATE SET
    value = excluded.value, "timestamp" = excluded."timestamp", step = excluded.step,
    is_nan = excluded.is_nan
WHERE (excluded.step, excluded."timestamp", excluded.value)
    > (latest.step, latest."timestamp", latest.value);

-- name: end_runs
-- A status that changed in the source, where no one has changed it here.
WITH changed AS (
    UPDATE runs SET status = given.status, end_time = given.end_time
    FROM pg_temp.incoming_runs AS given
    LEFT JOIN mlops.brought_runs AS earlier USING (run_uuid)
    WHERE runs.run_uuid = given.run_uuid AND runs.status IS DISTINCT FROM given.status
        AND CASE WHEN earlier.status IS NULL THEN runs.status IN ('RUNNING', 'SCHEDULED')
            ELSE runs.status = earlier.status END
    RETURNING runs.run_uuid
)
SELECT run_uuid, count(*) FROM changed GROUP BY run_uuid;

-- name: forget_last_writes
-- Bringing is not the last write of a run: its own times and those of its points decide.
UPDATE mlops.run_ranges SET written_on = NULL WHERE run_uuid = ANY (%(runs)s);

-- name: add_rows
-- Add the rows whose parents are here, and which are not here themselves.
INSERT INTO {table} ({columns})
SELECT {columns} FROM {stage} AS given WHERE {parents}
ON CONFLICT DO NOTHING;

-- name: parent
-- Is a parent of a row here?
({given} IS NULL OR EXISTS (SELECT FROM {table} AS parent WHERE parent.{column} = {given}));

-- name: orphans
-- How many rows have no parent here?
SELECT count(*) FROM {stage} AS given WHERE NOT ({parents});

-- name: dataset_names
-- Which datasets are here under another id?
SELECT given.dataset_uuid, datasets.dataset_uuid
FROM pg_temp.incoming_datasets AS given
JOIN datasets USING (experiment_id, name, digest)
WHERE given.dataset_uuid <> datasets.dataset_uuid;

-- name: refresh_models
-- Logged models that are newer in the source, such as one that was pending.
UPDATE logged_models SET
    status = given.status, status_message = given.status_message,
    last_updated_timestamp_ms = given.last_updated_timestamp_ms
FROM pg_temp.incoming_logged_models AS given
WHERE logged_models.model_id = given.model_id
    AND logged_models.last_updated_timestamp_ms < given.last_updated_timestamp_ms;

-- name: models_here
-- The versions of a registered model that are here.
SELECT version, creation_time, run_id FROM model_versions
WHERE workspace = %(workspace)s AND name = %(name)s;

-- name: aliases_here
-- The aliases of a registered model that are here.
SELECT alias, version FROM registered_model_aliases
WHERE workspace = %(workspace)s AND name = %(name)s;

-- name: add_version_rows
-- Add the rows of one registered model that are not here.
INSERT INTO {table} ({columns}) SELECT {columns} FROM {stage} ON CONFLICT DO NOTHING;

-- name: artifact_roots
-- Where are the artifacts of these (or all) runs and logged models, and of their experiments?
SELECT 'run' AS kind, run_uuid AS id, artifact_uri AS location, runs.experiment_id,
    artifact_location AS place
FROM runs JOIN experiments USING (experiment_id)
WHERE %(ids)s::text[] IS NULL OR run_uuid = ANY (%(ids)s)
UNION ALL
SELECT 'model', model_id, logged_models.artifact_location, experiment_id, experiments.artifact_location
FROM logged_models JOIN experiments USING (experiment_id)
WHERE %(ids)s::text[] IS NULL OR model_id = ANY (%(ids)s)
ORDER BY kind DESC, id;

-- name: move_run
-- The artifacts of a run are elsewhere now.
UPDATE runs SET artifact_uri = %(new)s WHERE run_uuid = %(id)s AND artifact_uri = %(old)s;

-- name: move_model
-- The artifacts of a logged model are elsewhere now.
UPDATE logged_models SET artifact_location = %(new)s
WHERE model_id = %(id)s AND artifact_location = %(old)s;

-- name: move_versions
-- The model versions whose files are among them follow.
UPDATE model_versions SET
    source = CASE WHEN starts_with(source, %(old)s)
        THEN %(new)s || substr(source, length(%(old)s) + 1) ELSE source END,
    storage_location = CASE WHEN starts_with(storage_location, %(old)s)
        THEN %(new)s || substr(storage_location, length(%(old)s) + 1) ELSE storage_location END
WHERE starts_with(source, %(old)s) OR starts_with(storage_location, %(old)s);

-- name: freeze_versions
-- Freeze the files of versions that had none in the ledger when they were registered.
SELECT mlops.register_files(workspace, name, version, place, run_id)
FROM mlops.mlflow_version_places()
WHERE run_id = ANY (%(runs)s) OR place LIKE ANY (%(places)s);
