-- Adding data of another MLflow to a database in use (the target).

-- name: has_memory
-- Does the schema have the tables that remember the contents of sources?
SELECT to_regclass('mlops.brought_entities') IS NOT NULL;

-- name: take_turn
-- Is no other session bringing runs into this database? Then this transaction is.
SELECT pg_try_advisory_xact_lock(hashtextextended('mlops bringing', 0));

-- name: holder_of_turn
-- Which session brings runs into this database at the moment?
SELECT pid FROM pg_locks
WHERE locktype = 'advisory'
    AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (classid::bigint << 32) | objid::bigint = hashtextextended('mlops bringing', 0);

-- name: remembered
-- Which marks did these runs have when they were last brought?
SELECT run_uuid, mark FROM mlops.brought_runs;

-- name: stages
-- The lifecycle stages of those of these runs that the target has.
SELECT run_uuid, lifecycle_stage FROM runs WHERE run_uuid = ANY (%(runs)s);

-- name: remembered_tags
-- Which hashes of tags did these runs have when they were last brought?
SELECT run_uuid, tags FROM mlops.brought_runs WHERE run_uuid = ANY (%(runs)s);

-- name: remember
-- Store the mark, the status and the hashes of tags of runs.
INSERT INTO mlops.brought_runs (run_uuid, mark, status, tags)
SELECT * FROM unnest(%(runs)s::text[], %(marks)s::text[], %(statuses)s::text[], %(tags)s::jsonb[])
ON CONFLICT (run_uuid) DO UPDATE SET
    mark = excluded.mark, status = excluded.status, tags = excluded.tags,
    brought_at = clock_timestamp();

-- name: experiments_here
-- The experiments of this database by workspace and name.
SELECT workspace, name, experiment_id, lifecycle_stage, artifact_location FROM experiments;

-- name: add_workspace
-- Add a workspace of experiments.
INSERT INTO workspaces (name) VALUES (%(name)s) ON CONFLICT DO NOTHING;

-- name: add_experiment
-- Add an experiment: the default one with the id 0, any other with the next free id.
INSERT INTO experiments (
    experiment_id, name, workspace, artifact_location, lifecycle_stage, creation_time,
    last_update_time)
VALUES (
    coalesce(%(id)s, nextval(pg_get_serial_sequence('experiments', 'experiment_id'))), %(name)s, %(workspace)s, %(artifact_location)s, %(lifecycle_stage)s, %(creation_time)s,
    %(last_update_time)s)
RETURNING experiment_id;

-- name: make_stage
-- Create the temporary table for incoming rows of a table.
CREATE TEMP TABLE IF NOT EXISTS {stage} (LIKE {table});

-- name: clear_stage
-- Remove all rows of a temporary table.
TRUNCATE {stage};

-- name: copy_in
-- Copy rows into a table.
COPY {table} ({columns}) FROM STDIN;

-- name: drop_staged_runs
-- Remove the incoming rows of runs with conflicts.
DELETE FROM {stage} WHERE run_uuid = ANY (%(runs)s);

-- name: changed_params
-- Which params have another value in the target? MLflow refuses to change one.
SELECT given.run_uuid, given.key, params.value, given.value
FROM pg_temp.incoming_params AS given
JOIN params ON params.run_uuid = given.run_uuid AND params.key = given.key
WHERE params.value IS DISTINCT FROM given.value
ORDER BY given.run_uuid, given.key;

-- name: different_tags
-- Which tags of these runs have another value in the target?
SELECT given.run_uuid, given.key
FROM pg_temp.incoming_tags AS given
JOIN tags ON tags.run_uuid = given.run_uuid AND tags.key = given.key
WHERE tags.value IS DISTINCT FROM given.value AND given.run_uuid <> ALL (%(overwritten)s)
ORDER BY given.run_uuid, given.key;

-- name: add_params
-- Add missing params.
WITH changed AS (
    INSERT INTO params (run_uuid, key, value)
    SELECT run_uuid, key, value FROM pg_temp.incoming_params ORDER BY run_uuid, key
    ON CONFLICT DO NOTHING
    RETURNING run_uuid
)
SELECT run_uuid, count(*) FROM changed GROUP BY run_uuid;

-- name: add_tags
-- Add missing tags.
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
-- Add missing points.
WITH changed AS (
    INSERT INTO metrics (run_uuid, key, value, "timestamp", step, is_nan)
    SELECT run_uuid, key, value, "timestamp", step, is_nan
    FROM pg_temp.incoming_metrics
    ORDER BY run_uuid, key, step, "timestamp"
    ON CONFLICT DO NOTHING
    RETURNING run_uuid
)
SELECT run_uuid, count(*) FROM changed GROUP BY run_uuid;

-- name: claim_names
-- A metric of a user replaces a generated one of the same name.
WITH taken AS (
    DELETE FROM mlops.generated_metrics AS generated
    USING pg_temp.incoming_latest_metrics AS given
    WHERE generated.run_uuid = given.run_uuid AND generated.key = given.key
    RETURNING generated.run_uuid, generated.key
)
DELETE FROM latest_metrics AS latest
USING taken
WHERE latest.run_uuid = taken.run_uuid AND latest.key = taken.key
RETURNING latest.key;

-- name: raise_latest
-- Update the last point of each series, in the order of MLflow.
INSERT INTO latest_metrics AS latest (run_uuid, key, value, "timestamp", step, is_nan)
SELECT run_uuid, key, value, "timestamp", step, is_nan
FROM pg_temp.incoming_latest_metrics ORDER BY run_uuid, key
ON CONFLICT (key, run_uuid) DO UPDATE SET
    value = excluded.value, "timestamp" = excluded."timestamp", step = excluded.step,
    is_nan = excluded.is_nan
WHERE (excluded.step, excluded."timestamp", excluded.value)
    > (latest.step, latest."timestamp", latest.value);

-- name: end_runs
-- Set a status that changed in the source, unless it was changed in the target.
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
-- Add missing rows whose parents exist.
INSERT INTO {table} ({columns})
SELECT {columns} FROM {stage} AS given WHERE {parents}
ON CONFLICT DO NOTHING;

-- name: parent
-- Does a parent of a row exist?
({given} IS NULL OR EXISTS (SELECT FROM {table} AS parent WHERE parent.{column} = {given}));

-- name: orphans
-- How many rows have no parent?
SELECT count(*) FROM {stage} AS given WHERE NOT ({parents});

-- name: datasets_here
-- The datasets of this database by experiment, name and digest.
SELECT experiment_id, name, digest, dataset_uuid FROM datasets;

-- name: remembered_entities
-- Which marks did entities of a kind have when they were last brought?
SELECT id, mark FROM mlops.brought_entities WHERE kind = %(kind)s;

-- name: remember_entities
-- Store the marks of entities.
INSERT INTO mlops.brought_entities (kind, id, mark)
SELECT %(kind)s, * FROM unnest(%(ids)s::text[], %(marks)s::text[])
ON CONFLICT (kind, id) DO UPDATE SET mark = excluded.mark, brought_at = clock_timestamp();

-- name: entities_here
-- Which of these entities does the target have?
SELECT {owner} FROM {table} WHERE {owner} = ANY (%(ids)s);

-- name: key_column
-- A column of a row's key, as a text.
{column}::text;

-- name: key_of
-- The key of a row within its entity: the table, and the other columns of the primary key.
concat_ws('/', {parts});

-- name: hash_of
-- A short hash of the columns in which two rows of the same key may differ.
left(encode(sha256(convert_to(ROW({columns})::text, 'UTF8')), 'hex'), 16);

-- name: same
-- Is a column equal in the target and in the source?
{ours} = {given};

-- name: set_to
-- Set a column to the value of the source.
{column} = {given};

-- name: is_newer
-- Is the row of the source newer than that of the target?
({given} IS NOT NULL AND ({ours} IS NULL OR {given} > {ours}));

-- name: keep_places
-- The artifacts of a trace that is here are where they are here, as those of a run.
UPDATE pg_temp.incoming_trace_tags AS given SET value = ours.value
FROM trace_tags AS ours
WHERE given.key = 'mlflow.artifactLocation' AND ours.key = given.key
    AND ours.request_id = given.request_id;

-- name: replace_rows
-- Replace rows that changed only in the source, or are newer in the source.
WITH changed AS (
    UPDATE {table} AS ours SET {settings}
    FROM {stage} AS given
    LEFT JOIN mlops.brought_entities AS earlier ON earlier.kind = %(kind)s AND earlier.id = {id}
    WHERE {same} AND {ours_hash} <> {given_hash}
        AND (earlier.rows ->> {key} = {ours_hash} OR {is_newer})
    RETURNING 1
)
SELECT count(*) FROM changed;

-- name: different_rows
-- Which rows differ, and changed in the source since they were brought, or were never brought?
SELECT {id}, {key}
FROM {stage} AS given
JOIN {table} AS ours ON {same}
LEFT JOIN mlops.brought_entities AS earlier ON earlier.kind = %(kind)s AND earlier.id = {id}
WHERE {ours_hash} <> {given_hash} AND earlier.rows ->> {key} IS DISTINCT FROM {given_hash}
ORDER BY 1, 2;

-- name: add_missing_rows
-- Add missing rows whose parents exist; a sync leaves out rows that were deleted in the target.
WITH added AS (
    INSERT INTO {table} ({columns})
    SELECT {given_columns} FROM {stage} AS given
    LEFT JOIN mlops.brought_entities AS earlier ON earlier.kind = %(kind)s AND earlier.id = {id}
    WHERE {parents} AND NOT (%(changes)s AND coalesce(earlier.rows ? {key}, false))
    ON CONFLICT DO NOTHING
    RETURNING 1
)
SELECT count(*) FROM added;

-- name: rows_without_parents
-- Which entities have rows without a parent?
SELECT {id} FROM {stage} AS given WHERE NOT ({parents});

-- name: remember_rows
-- Store a hash of each row that is equal in the target and in the source.
UPDATE mlops.brought_entities AS earlier SET rows = earlier.rows || fresh.rows
FROM (
    SELECT {id} AS id, jsonb_object_agg({key}, {given_hash}) AS rows
    FROM {stage} AS given JOIN {table} AS ours ON {same}
    WHERE {ours_hash} = {given_hash}
    GROUP BY 1
) AS fresh
WHERE earlier.kind = %(kind)s AND earlier.id = fresh.id;

-- name: models_here
-- The versions of a registered model in the target.
SELECT version, creation_time, run_id, current_stage = 'Deleted_Internal' FROM model_versions
WHERE workspace = %(workspace)s AND name = %(name)s;

-- name: model_is_here
-- Does the target have a registered model?
SELECT EXISTS (
    SELECT FROM registered_models WHERE workspace = %(workspace)s AND name = %(name)s);

-- name: raise_model_time
-- Set the time of a registered model to the later one of source and target.
UPDATE registered_models AS ours
SET last_updated_time = greatest(ours.last_updated_time, given.last_updated_time)
FROM pg_temp.incoming_registered_models AS given
WHERE ours.workspace = given.workspace AND ours.name = given.name
    AND given.last_updated_time > ours.last_updated_time;

-- name: move_later_versions
-- Point versions at the copied artifacts of their run or logged model, if these were copied before.
UPDATE model_versions AS ours SET
    source = CASE WHEN starts_with(ours.source, copied.source)
        THEN copied.place || substr(ours.source, length(copied.source) + 1) ELSE ours.source END,
    storage_location = CASE WHEN starts_with(storage_location, copied.source)
        THEN copied.place || substr(storage_location, length(copied.source) + 1)
        ELSE storage_location END
FROM (
    SELECT owner_id, source, coalesce(runs.artifact_uri, logged_models.artifact_location) AS place
    FROM mlops.brought_artifacts
    LEFT JOIN runs ON run_uuid = owner_id
    LEFT JOIN logged_models ON model_id = owner_id
) AS copied
WHERE ours.workspace = %(workspace)s AND ours.name = %(name)s
    AND (ours.run_id = copied.owner_id OR ours.source = 'models:/' || copied.owner_id)
    AND (starts_with(ours.source, copied.source) OR starts_with(storage_location, copied.source));

-- name: artifact_roots
-- Where are the artifacts of these (or all) runs, logged models and traces, and of their experiments?
-- The files of a trace with spans in the database are attachments: a bucket is not asked for them.
SELECT 'run' AS kind, run_uuid AS id, artifact_uri AS location, runs.experiment_id,
    artifact_location AS place
FROM runs JOIN experiments USING (experiment_id)
WHERE %(ids)s::text[] IS NULL OR run_uuid = ANY (%(ids)s)
UNION ALL
SELECT 'model', model_id, logged_models.artifact_location, experiment_id, experiments.artifact_location
FROM logged_models JOIN experiments USING (experiment_id)
WHERE %(ids)s::text[] IS NULL OR model_id = ANY (%(ids)s)
UNION ALL
SELECT 'trace', request_id, place.value, experiment_id, artifact_location
FROM trace_tags AS place JOIN trace_info USING (request_id) JOIN experiments USING (experiment_id)
WHERE place.key = 'mlflow.artifactLocation'
    AND (%(ids)s::text[] IS NULL OR request_id = ANY (%(ids)s))
    -- A text without a colon is its own first part: the path of a folder.
    AND (split_part(place.value, ':', 1) IN ('file', 'timescaledb-artifacts', place.value)
        OR NOT EXISTS (
            SELECT FROM trace_tags AS spans
            WHERE spans.request_id = place.request_id
                AND (spans.key, spans.value) = ('mlflow.trace.spansLocation', 'TRACKING_STORE')))
ORDER BY kind DESC, id;

-- name: move_run
-- Set the location of the artifacts of a run.
UPDATE runs SET artifact_uri = %(new)s WHERE run_uuid = %(id)s AND artifact_uri = %(old)s;

-- name: move_model
-- Set the location of the artifacts of a logged model.
UPDATE logged_models SET artifact_location = %(new)s
WHERE model_id = %(id)s AND artifact_location = %(old)s;

-- name: move_trace
-- Set the location of the artifacts of a trace.
UPDATE trace_tags SET value = %(new)s
WHERE request_id = %(id)s AND key = 'mlflow.artifactLocation' AND value = %(old)s;

-- name: move_versions
-- Move the model versions whose files are below an old location.
UPDATE model_versions SET
    source = CASE WHEN starts_with(source, %(old)s)
        THEN %(new)s || substr(source, length(%(old)s) + 1) ELSE source END,
    storage_location = CASE WHEN starts_with(storage_location, %(old)s)
        THEN %(new)s || substr(storage_location, length(%(old)s) + 1) ELSE storage_location END
WHERE starts_with(source, %(old)s) OR starts_with(storage_location, %(old)s);

-- name: has_versions
-- Do model versions need the files of a run or logged model?
SELECT EXISTS (
    SELECT FROM model_versions
    WHERE run_id = %(id)s OR source = 'models:/' || %(id)s
        OR starts_with(source, %(new)s) OR starts_with(storage_location, %(new)s));

-- name: freeze_versions
-- Freeze the files of versions that had none in the ledger when they were registered.
SELECT mlops.register_files(workspace, name, version, place, run_id)
FROM mlops.mlflow_version_places()
WHERE run_id = %(run)s OR place LIKE %(place)s;

-- name: brought_artifacts
-- The source and the mark of the artifacts of these (or all) runs and logged models.
SELECT owner_id, source, mark FROM mlops.brought_artifacts
WHERE %(ids)s::text[] IS NULL OR owner_id = ANY (%(ids)s);

-- name: brought_files
-- The stamps of the files of a run or logged model when they were copied.
SELECT files FROM mlops.brought_artifacts WHERE owner_id = %(id)s;

-- name: remember_artifacts
-- Store the source, the mark and the stamps of the files of a run or logged model.
INSERT INTO mlops.brought_artifacts (owner_id, source, mark, files)
VALUES (%(id)s, %(source)s, %(mark)s, %(files)s::jsonb)
ON CONFLICT (owner_id) DO UPDATE SET
    source = excluded.source, mark = excluded.mark, files = excluded.files,
    brought_at = clock_timestamp();
