-- name: identity
-- Which database is this, of all there are?
SELECT system_identifier, current_database() FROM pg_control_system();

-- name: limit_source
-- No time limit of a role or a database ends the reading of a source; a lock on a table of it does.
SET statement_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET lock_timeout = '30s';

-- name: occupied
-- Does this database hold any run, model or experiment beside the default experiment?
SELECT EXISTS (SELECT FROM runs)
    OR EXISTS (SELECT FROM registered_models)
    OR EXISTS (SELECT FROM experiments WHERE experiment_id <> 0);

-- name: empty
-- Make room for the rows of another MLflow database (only MLflow's own first rows are there).
TRUNCATE {table} CASCADE;

-- name: count
-- How many rows are there?
SELECT count(*) FROM {table};

-- name: generated
-- How many metrics did this database generate from others?
SELECT count(*) FROM mlops.generated_metrics;

-- name: advance_sequences
-- New rows must not get the numbers of imported ones.
SELECT setval(
    pg_get_serial_sequence({name}, {column}),
    greatest((SELECT coalesce(max({identifier}), 0) FROM {table}), 1)
)
WHERE pg_get_serial_sequence({name}, {column}) IS NOT NULL;

-- name: history_triggers
-- Which triggers keep the histories of the registry and of tags, and on which tables?
SELECT tgrelid::regclass::text, tgname FROM pg_trigger
WHERE tgfoid IN ('mlops.keep_registry_history'::regproc, 'mlops.keep_tag_history'::regproc);

-- name: pause_trigger
-- Let rows in without it.
ALTER TABLE {table} DISABLE TRIGGER {trigger};

-- name: resume_trigger
-- From now on it keeps its history again.
ALTER TABLE {table} ENABLE TRIGGER {trigger};

-- name: begin_history
-- Enter into the histories of the registry and of tags what was imported.
SELECT mlops.begin_registry_history('imported'), mlops.begin_tag_history('imported');

-- name: keep_old_id
-- Which id had an experiment before it was imported?
INSERT INTO experiment_tags (experiment_id, key, value)
VALUES (%(id)s, %(key)s, %(old)s)
ON CONFLICT DO NOTHING;

-- name: knows_last_writes
-- Does this database keep when runs were written?
SELECT EXISTS (
    SELECT FROM pg_attribute
    WHERE attrelid = to_regclass('mlops.run_ranges') AND attname = 'written_on'
);

-- name: forget_last_writes
-- The import is not the last write of a run: its own times and those of its points decide.
UPDATE mlops.run_ranges SET written_on = NULL;
