-- name: attribute
-- Set, for the rest of this transaction, the user and reason that the triggers record, and the
-- protected aliases where the client and not the database defines them.
SELECT set_config('mlops.user', %(user)s, true), set_config('mlops.reason', %(reason)s, true),
    set_config('mlops.override', %(override)s, true),
    set_config('mlops.protected_aliases', coalesce(
        %(protected)s::text, current_setting('mlops.protected_aliases', true), ''), true),
    set_config('mlops.authenticated_user', %(authenticated)s, true),
    set_config('mlops.claimed_user', %(claimed)s, true);

-- name: history
-- What was said of a model, also under its earlier names and in its earlier workspaces?
WITH RECURSIVE called (workspace, name, until) AS (
    SELECT %(workspace)s::text, %(name)s::text, 'infinity'::timestamptz
    UNION
    SELECT coalesce(model.detail ->> 'workspace_from', model.workspace),
        coalesce(model.detail ->> 'renamed_from', model.name), model.valid_from
    FROM called JOIN mlops.registry_history AS model
        ON model.workspace = called.workspace AND model.kind = 'model' AND model.name = called.name
        AND model.detail ?| ARRAY['renamed_from', 'workspace_from']
        AND model.valid_from < called.until
)
SELECT history.workspace, history.name, kind, subject, version, value, detail, valid_from, valid_to,
    db_user, mlflow_user, reason, ended, ended_db_user, ended_mlflow_user, ended_reason,
    -- As JSON: a schema that waits for its migration has no such columns.
    state ->> 'authenticated_user' AS authenticated_user,
    state ->> 'claimed_user' AS claimed_user,
    state ->> 'ended_authenticated_user' AS ended_authenticated_user,
    state ->> 'ended_claimed_user' AS ended_claimed_user
FROM called JOIN mlops.registry_history AS history
    ON history.workspace = called.workspace AND history.name = called.name
    AND history.valid_from < called.until
CROSS JOIN LATERAL to_jsonb(history) AS state
WHERE (%(kind)s::text IS NULL OR kind = %(kind)s)
    AND (%(subject)s::text IS NULL OR subject = %(subject)s)
    AND (%(as_of)s::timestamptz IS NULL
        OR valid_from <= %(as_of)s AND (valid_to IS NULL OR valid_to > %(as_of)s))
ORDER BY valid_from, history_id;

-- name: serialize_versions
-- Wait until no other transaction assigns a version number of this model.
SELECT pg_advisory_xact_lock(hashtextextended('mlops model version ' || %(workspace)s || '/' || %(name)s, 0));

-- name: insert_version
-- Enter a model version under a number of the caller's choice: MLflow only counts up.
INSERT INTO model_versions
    (name, version, creation_time, last_updated_time, description, current_stage, source,
    storage_location, run_id, status, workspace)
VALUES
    (%(name)s, %(version)s, %(now)s, %(now)s, %(description)s, 'None', %(source)s,
    %(source)s, %(run_id)s, 'READY', %(workspace)s);

-- name: models
-- Which versions match: of a name, a number; the newest first?
SELECT name, version, run_id, strategy_type, description, created_at
FROM mlops.models
WHERE workspace = %(workspace)s
    AND (%(name)s::text IS NULL OR name = %(name)s)
    AND (%(version)s::integer IS NULL OR version = %(version)s)
ORDER BY name, version DESC
LIMIT %(limit)s;

-- name: best_model
-- Which version of a strategy has the best latest value of a metric, and what are its others? NaN
-- never wins, and of equal ones the newest does. A version's value is the one that mlops.models shows:
-- what was logged of its model alone (an evaluation in another run, a checkpoint), else what its run
-- logged.
WITH best AS MATERIALIZED (
    SELECT workspace, name, version
    FROM mlops.models AS model
    JOIN mlops.mlflow_model_versions() AS shared USING (workspace, name, version)
    LEFT JOIN LATERAL (
        SELECT own.metric_value AS value, own.metric_value = 0 AND EXISTS (
            SELECT FROM metrics AS point
            WHERE point.run_uuid = own.run_id AND point.key = own.metric_name
                AND point.step = own.metric_step
                AND point."timestamp" = own.metric_timestamp_ms AND point.is_nan) AS is_nan
        FROM logged_model_metrics AS own
        WHERE own.model_id = model.model_id AND own.metric_name = %(key)s
            AND (shared.shares_run OR own.run_id IS DISTINCT FROM model.run_id)
        ORDER BY own.metric_step DESC, own.metric_timestamp_ms DESC, own.metric_value DESC
        LIMIT 1
    ) AS own ON true
    LEFT JOIN latest_metrics AS run
        ON run.run_uuid = model.run_id AND run.key = %(key)s AND own.value IS NULL
    CROSS JOIN LATERAL (
        SELECT coalesce(own.value, run.value) AS value, coalesce(own.is_nan, run.is_nan) AS is_nan
    ) AS metric
    WHERE workspace = %(workspace)s
        AND metric.value <> 'NaN' AND NOT metric.is_nan
        AND (%(strategy_type)s::text IS NULL OR model.strategy_type = %(strategy_type)s)
    ORDER BY CASE WHEN %(higher_is_better)s THEN -metric.value ELSE metric.value END,
        model.created_at DESC, version DESC
    LIMIT 1
)
SELECT name, version, run_id, strategy_type, description, created_at, metrics
FROM best JOIN mlops.models USING (workspace, name, version);

-- name: metric_keys
-- Which metrics has any version of this workspace, in its run or its logged model?
SELECT DISTINCT key
FROM mlops.models AS model
CROSS JOIN LATERAL jsonb_object_keys(model.metrics) AS key
WHERE workspace = %(workspace)s;

-- name: strategy_types
-- Which strategy types have the versions of this workspace?
SELECT DISTINCT strategy_type
FROM mlops.models
WHERE workspace = %(workspace)s AND strategy_type IS NOT NULL;

-- name: model_names
-- Which models does this workspace have?
SELECT name FROM registered_models WHERE workspace = %(workspace)s;

-- name: in_database
-- Does the in-database store hold anything below this path?
SELECT EXISTS (
    SELECT FROM mlops.artifact_files
    WHERE path = %(path)s OR path >= %(path)s || '/' AND path < %(path)s || '0');

-- name: version_changes
-- Which files of a version are not what was registered?
SELECT location, change, registered, current FROM mlops.version_changes
WHERE workspace = %(workspace)s AND name = %(name)s AND version = %(version)s
ORDER BY location;

-- name: children_of_versions
-- The tags and aliases of these model versions, a row each in their order. One look into the index
-- for each version, in every plan.
SELECT tag.keys, tag.values, alias.names
FROM unnest(%(names)b::text[], %(versions)b::integer[])
    WITH ORDINALITY AS wanted (name, version, position)
CROSS JOIN LATERAL (
    SELECT array_agg(key::text) AS keys, array_agg(value) AS values
    FROM model_version_tags
    WHERE workspace = %(workspace)s AND name = wanted.name AND version = wanted.version
) AS tag
CROSS JOIN LATERAL (
    SELECT array_agg(alias::text ORDER BY alias) AS names
    FROM registered_model_aliases
    WHERE workspace = %(workspace)s AND name = wanted.name AND version = wanted.version
) AS alias
ORDER BY wanted.position;

-- name: children_of_models
-- The tags and aliases of these models, a row each in their order.
SELECT tag.keys, tag.values, alias.names, alias.versions
FROM unnest(%(names)b::text[]) WITH ORDINALITY AS wanted (name, position)
CROSS JOIN LATERAL (
    SELECT array_agg(key::text) AS keys, array_agg(value::text) AS values
    FROM registered_model_tags
    WHERE workspace = %(workspace)s AND name = wanted.name
) AS tag
CROSS JOIN LATERAL (
    SELECT array_agg(alias::text) AS names, array_agg(version) AS versions
    FROM registered_model_aliases
    WHERE workspace = %(workspace)s AND name = wanted.name
) AS alias
ORDER BY wanted.position;

-- name: latest_versions
-- The latest version of these models in each stage, with its tags, in the order of their numbers.
SELECT
    latest.name::text, latest.version, latest.creation_time, latest.last_updated_time,
    latest.description::text, latest.user_id::text, latest.current_stage::text,
    latest.source::text, latest.run_id::text, latest.status::text, latest.status_message::text,
    latest.run_link::text, tag.keys, tag.values
FROM (
    SELECT DISTINCT ON (name, current_stage) *
    FROM model_versions
    WHERE workspace = %(workspace)s
        AND name = ANY(%(names)b::text[])
        AND current_stage <> 'Deleted_Internal'
    ORDER BY name, current_stage, version DESC
) AS latest
CROSS JOIN LATERAL (
    SELECT array_agg(key::text) AS keys, array_agg(value) AS values
    FROM model_version_tags
    WHERE workspace = %(workspace)s AND name = latest.name AND version = latest.version
) AS tag
ORDER BY latest.name, latest.version;
