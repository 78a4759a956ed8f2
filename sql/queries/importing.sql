-- name: identity
-- Which database is this, of all there are?
SELECT system_identifier, current_database() FROM pg_control_system();

-- name: occupied
-- Does this database hold any run, model or experiment that somebody made?
SELECT EXISTS (SELECT FROM runs)
    OR EXISTS (SELECT FROM registered_models)
    OR EXISTS (SELECT FROM experiments WHERE experiment_id <> 0);

-- name: empty
-- Make room for the rows of another MLflow database (only MLflow's own first rows are there).
TRUNCATE {table} CASCADE;

-- name: copy_in
-- Take rows.
COPY {table} ({columns}) FROM STDIN;

-- name: count
-- How many rows are there?
SELECT count(*) FROM {table};

-- name: advance_sequences
-- New rows must not get the numbers of imported ones.
SELECT setval(
    pg_get_serial_sequence({name}, {column}),
    greatest((SELECT coalesce(max({identifier}), 0) FROM {table}), 1)
)
WHERE pg_get_serial_sequence({name}, {column}) IS NOT NULL;

-- name: history_triggers
-- Which triggers keep the history of the registry, and on which tables?
SELECT tgrelid::regclass::text, tgname FROM pg_trigger
WHERE tgfoid = 'mlops.keep_registry_history'::regproc;

-- name: pause_trigger
-- Let rows in without it.
ALTER TABLE {table} DISABLE TRIGGER {trigger};

-- name: resume_trigger
-- From now on it keeps its history again.
ALTER TABLE {table} ENABLE TRIGGER {trigger};

-- name: begin_history
-- What is in the registry now, as 0202 found it: versions since they were created, the rest since
-- now, for nobody knows.
INSERT INTO mlops.registry_history
    (workspace, name, kind, subject, version, value, detail, valid_from, mlflow_user, reason)
SELECT
    coalesce(item ->> 'workspace', 'default'), item ->> 'name', kind,
    mlops.registry_subject(kind, item), (item ->> 'version')::integer,
    mlops.registry_value(kind, item), mlops.registry_detail(kind, item),
    CASE WHEN kind IN ('version', 'model')
            AND item ->> 'creation_time' IS NOT NULL
            AND NOT EXISTS (SELECT FROM mlops.registry_history)
        THEN to_timestamp((item ->> 'creation_time')::bigint / 1000.0)
        ELSE clock_timestamp() END,
    item ->> 'user_id', 'imported'
FROM (
    SELECT 'alias' AS kind, to_jsonb(a) AS item FROM registered_model_aliases AS a
    UNION ALL SELECT kind, to_jsonb(v)
    FROM model_versions AS v, unnest(ARRAY['version', 'stage']) AS kind
    UNION ALL SELECT 'tag', to_jsonb(t) FROM model_version_tags AS t
    UNION ALL SELECT 'model', to_jsonb(m) FROM registered_models AS m
) AS existing
WHERE mlops.registry_subject(kind, item) IS NOT NULL;
