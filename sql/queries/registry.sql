-- name: attribute
-- Say for the rest of this transaction who asks for what the triggers record, and why.
SELECT set_config('mlops.user', %(user)s, true), set_config('mlops.reason', %(reason)s, true),
    set_config('mlops.override', %(override)s, true);

-- name: history
-- What was said of a model, also under its earlier names?
WITH RECURSIVE called (name, until) AS (
    SELECT %(name)s::text, 'infinity'::timestamptz
    UNION
    SELECT model.detail ->> 'renamed_from', model.valid_from
    FROM called JOIN mlops.registry_history AS model
        ON model.workspace = %(workspace)s AND model.kind = 'model' AND model.name = called.name
        AND model.detail ? 'renamed_from' AND model.valid_from < called.until
)
SELECT history.workspace, history.name, kind, subject, version, value, detail, valid_from, valid_to,
    db_user, mlflow_user, reason, ended, ended_db_user, ended_mlflow_user, ended_reason
FROM called JOIN mlops.registry_history AS history
    ON history.workspace = %(workspace)s AND history.name = called.name
    AND history.valid_from < called.until
WHERE (%(kind)s::text IS NULL OR kind = %(kind)s)
    AND (%(subject)s::text IS NULL OR subject = %(subject)s)
    AND (%(as_of)s::timestamptz IS NULL
        OR valid_from <= %(as_of)s AND (valid_to IS NULL OR valid_to > %(as_of)s))
ORDER BY valid_from, history_id;

-- name: serialize_versions
-- Wait until nobody else gives a version number to this model.
SELECT pg_advisory_xact_lock(hashtextextended('mlops model version ' || %(name)s, 0));

-- name: insert_version
-- Enter a model version under a number of the caller's choice: MLflow only counts up.
INSERT INTO model_versions
    (name, version, creation_time, last_updated_time, description, current_stage, source,
    storage_location, run_id, status, workspace)
VALUES
    (%(name)s, %(version)s, %(now)s, %(now)s, %(description)s, 'None', %(source)s,
    %(source)s, %(run_id)s, 'READY', %(workspace)s);

-- name: models
-- Which versions match: of a name, a number, an id; the newest first?
SELECT model.name, model.version, model.run_id, strategy.value AS strategy_type, model.description,
    to_timestamp(model.creation_time / 1000.0) AS created_at
FROM model_versions AS model
LEFT JOIN model_version_tags AS strategy
    ON strategy.workspace = model.workspace AND strategy.name = model.name
    AND strategy.version = model.version AND strategy.key = 'strategy_type'
WHERE model.current_stage <> 'Deleted_Internal' AND model.workspace = %(workspace)s
    AND (%(name)s::text IS NULL OR model.name = %(name)s)
    AND (%(version)s::integer IS NULL OR model.version = %(version)s)
    AND (%(run_id)s::text IS NULL OR model.run_id = %(run_id)s)
ORDER BY model.name, model.version DESC
LIMIT %(limit)s;

-- name: best_model
-- Which version of a strategy has the best latest value of a metric? NaN never wins, and of equal
-- ones the newest does.
SELECT model.name, model.version
FROM model_versions AS model
JOIN latest_metrics AS metric ON metric.run_uuid = model.run_id AND metric.key = %(key)s
WHERE model.current_stage <> 'Deleted_Internal' AND model.workspace = %(workspace)s
    AND NOT metric.is_nan AND metric.value <> 'NaN'
    AND (%(strategy_type)s::text IS NULL OR coalesce(
        (SELECT tag.value FROM model_version_tags AS tag
            WHERE tag.workspace = model.workspace AND tag.name = model.name
                AND tag.version = model.version AND tag.key = 'strategy_type'),
        (SELECT tag.value FROM registered_model_tags AS tag
            WHERE tag.workspace = model.workspace AND tag.name = model.name
                AND tag.key = 'strategy_type')) = %(strategy_type)s)
ORDER BY CASE WHEN %(higher_is_better)s THEN -metric.value ELSE metric.value END,
    model.creation_time DESC, model.version DESC
LIMIT 1;

-- name: in_database
-- Does the in-database store hold anything below this path?
SELECT EXISTS (
    SELECT FROM mlops.artifact_files
    WHERE path = %(path)s OR path >= %(path)s || '/' AND path < %(path)s || '0');

-- name: tags_of_versions
-- The tags of these model versions, one row a version.
SELECT tag.name::text, tag.version, array_agg(tag.key::text), array_agg(tag.value)
FROM unnest(%(names)b::text[], %(versions)b::integer[]) AS wanted (name, version)
JOIN model_version_tags AS tag
    ON tag.workspace = %(workspace)s AND tag.name = wanted.name AND tag.version = wanted.version
GROUP BY tag.name, tag.version;

-- name: aliases_of_versions
-- The aliases that point to these model versions, one row a version.
SELECT alias.name::text, alias.version, array_agg(alias.alias::text ORDER BY alias.alias)
FROM unnest(%(names)b::text[], %(versions)b::integer[]) AS wanted (name, version)
JOIN registered_model_aliases AS alias
    ON alias.workspace = %(workspace)s
    AND alias.name = wanted.name
    AND alias.version = wanted.version
GROUP BY alias.name, alias.version;

-- name: latest_versions
-- The latest version of these models in each stage.
SELECT DISTINCT ON (name, current_stage)
    name::text, version, creation_time, last_updated_time, description::text, user_id::text,
    current_stage::text, source::text, run_id::text, status::text, status_message::text,
    run_link::text
FROM model_versions
WHERE workspace = %(workspace)s
    AND name = ANY(%(names)b::text[])
    AND current_stage <> 'Deleted_Internal'
ORDER BY name, current_stage, version DESC;

-- name: tags_of_latest_versions
-- The tags of the latest version of these models in each stage, one row a version.
SELECT tag.name::text, tag.version, array_agg(tag.key::text), array_agg(tag.value)
FROM (
    SELECT name, max(version) AS version
    FROM model_versions
    WHERE workspace = %(workspace)s
        AND name = ANY(%(names)b::text[])
        AND current_stage <> 'Deleted_Internal'
    GROUP BY name, current_stage
) AS latest
JOIN model_version_tags AS tag
    ON tag.workspace = %(workspace)s AND tag.name = latest.name AND tag.version = latest.version
GROUP BY tag.name, tag.version;

-- name: tags_of_models
-- The tags of these models, one row a model.
SELECT name::text, array_agg(key::text), array_agg(value::text)
FROM registered_model_tags
WHERE workspace = %(workspace)s AND name = ANY(%(names)b::text[])
GROUP BY name;

-- name: aliases_of_models
-- The aliases of these models, one row a model.
SELECT name::text, array_agg(alias::text), array_agg(version)
FROM registered_model_aliases
WHERE workspace = %(workspace)s AND name = ANY(%(names)b::text[])
GROUP BY name;
