--! requires: mlflow
-- The registry in the words of whoever asks with SQL: mlops.models, mlops.model_metrics and
-- mlops.model_training_runs. Nothing is stored twice.
--
-- Each view stands over a function with a string body: PostgreSQL records no dependency on MLflow's
-- tables, so MLflow's own migrations may alter them, and yet inlines the function, so that a filter
-- on a view reaches their indexes. "@mlflow" is replaced by the schema in which they are found now:
-- a trading database may well have tables named runs, metrics or tags of its own.

-- A naive time is in UTC; what is no time at all is NULL, and does not fail the whole query.
CREATE FUNCTION mlops.utc_time(given text) RETURNS timestamptz
LANGUAGE plpgsql STABLE STRICT SET timezone = 'UTC' AS $$
BEGIN
    RETURN CASE WHEN given ~ '^\d{4}-\d\d-\d\d' THEN given::timestamptz END;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;

-- MLflow's times are milliseconds since 1970.
CREATE FUNCTION mlops.milliseconds_time(given bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT to_timestamp(given / 1000.0);
$$;

-- MLflow stores NaN as a flag beside 0, and the infinities as the largest finite numbers.
CREATE FUNCTION mlops.metric_value(stored double precision, is_nan boolean)
RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN is_nan THEN 'NaN'::double precision
        WHEN stored >= 1.7976931348623157e308 THEN 'Infinity'::double precision
        WHEN stored <= -1.7976931348623157e308 THEN '-Infinity'::double precision
        ELSE stored
    END;
$$;

-- "test/ic" is the metric "ic" of the dataset "test"; any other key is the metric's whole name.
CREATE FUNCTION mlops.metric_dataset_type(key text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN split_part(key, '/', 1) IN ('train', 'val', 'test', 'backtest', 'live')
            AND strpos(key, '/') > 0 THEN split_part(key, '/', 1)
    END;
$$;

CREATE FUNCTION mlops.metric_name(key text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN mlops.metric_dataset_type(key) IS NULL THEN key
        ELSE substr(key, strpos(key, '/') + 1)
    END;
$$;

DO $install$
DECLARE
    mlflow_schema text := (
        SELECT quote_ident(nspname) FROM pg_namespace
        WHERE oid = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('runs'))
    );
BEGIN

-- The versions that exist: MLflow keeps deleted ones, and prompts, in the same tables. A run that
-- logged several models (checkpoints) is shared: its metrics are not all this version's.
EXECUTE replace($function$
CREATE FUNCTION mlops.mlflow_model_versions() RETURNS TABLE (
    workspace text, name text, version integer, description text, created_at timestamptz,
    status text, stage text, run_id text, source text, model_id text, shares_run boolean
) LANGUAGE sql STABLE AS $$
    SELECT v.workspace::text, v.name::text, v.version, v.description::text,
        mlops.milliseconds_time(v.creation_time), v.status::text, v.current_stage::text,
        v.run_id::text, v.source::text, substring(v.source::text FROM '^models:/(m-[^/]+)$'),
        EXISTS (
            SELECT FROM "@mlflow".inputs AS i
            WHERE i.source_type = 'RUN_OUTPUT' AND i.source_id = v.run_id
                AND i.destination_type = 'MODEL_OUTPUT'
                AND i.destination_id <> substring(v.source::text FROM '^models:/(m-[^/]+)$')
        )
    FROM "@mlflow".model_versions AS v
    WHERE v.current_stage IS DISTINCT FROM 'Deleted_Internal'
        AND NOT EXISTS (
            SELECT FROM "@mlflow".registered_model_tags AS t
            WHERE t.workspace = v.workspace AND t.name = v.name
                AND t.key = 'mlflow.prompt.is_prompt' AND t.value = 'true'
        )
$$ $function$, '"@mlflow"', mlflow_schema);

-- What a run was given, with what its logged model was given laid over it.
EXECUTE replace($function$
CREATE FUNCTION mlops.mlflow_models() RETURNS TABLE (
    workspace text, name text, version integer, strategy_type text, description text,
    created_at timestamptz, status text, stage text, aliases text[], run_id text, model_id text,
    source text, parameters jsonb, metrics jsonb, trained_at timestamptz, git_sha text, tags jsonb
) LANGUAGE sql STABLE AS $$
    SELECT v.workspace, v.name, v.version,
        coalesce(
            (SELECT t.value FROM "@mlflow".model_version_tags AS t
                WHERE t.workspace = v.workspace AND t.name = v.name AND t.version = v.version
                    AND t.key = 'strategy_type'),
            (SELECT t.value::text FROM "@mlflow".registered_model_tags AS t
                WHERE t.workspace = v.workspace AND t.name = v.name AND t.key = 'strategy_type'),
            (SELECT t.value::text FROM "@mlflow".tags AS t
                WHERE t.run_uuid = v.run_id AND t.key = 'strategy_type')
        ),
        coalesce(
            nullif(v.description, ''),
            (SELECT m.description::text FROM "@mlflow".registered_models AS m
                WHERE m.workspace = v.workspace AND m.name = v.name)
        ),
        v.created_at, v.status, v.stage,
        ARRAY(
            SELECT a.alias::text FROM "@mlflow".registered_model_aliases AS a
            WHERE a.workspace = v.workspace AND a.name = v.name AND a.version = v.version
            ORDER BY a.alias
        ),
        v.run_id, v.model_id, v.source,
        coalesce(
            (SELECT jsonb_object_agg(p.key, p.value) FROM "@mlflow".params AS p
                WHERE p.run_uuid = v.run_id),
            '{}'
        ) || coalesce(
            (SELECT jsonb_object_agg(p.param_key, p.param_value)
                FROM "@mlflow".logged_model_params AS p WHERE p.model_id = v.model_id),
            '{}'
        ),
        coalesce(
            (SELECT jsonb_object_agg(l.key, mlops.metric_value(l.value, l.is_nan))
                FROM "@mlflow".latest_metrics AS l WHERE l.run_uuid = v.run_id),
            '{}'
        ) || coalesce(
            (SELECT jsonb_object_agg(
                    own.metric_name, mlops.metric_value(own.metric_value, own.is_nan)
                )
                FROM (
                    SELECT DISTINCT ON (o.metric_name) o.metric_name, o.metric_value,
                        o.metric_value = 0 AND EXISTS (
                            SELECT FROM "@mlflow".metrics AS n
                            WHERE n.run_uuid = o.run_id AND n.key = o.metric_name
                                AND n.step = o.metric_step
                                AND n."timestamp" = o.metric_timestamp_ms AND n.is_nan
                        ) AS is_nan
                    FROM "@mlflow".logged_model_metrics AS o
                    WHERE o.model_id = v.model_id
                        AND (v.shares_run OR o.run_id IS DISTINCT FROM v.run_id)
                    ORDER BY o.metric_name, o.metric_step DESC, o.metric_timestamp_ms DESC,
                        o.metric_value DESC
                ) AS own),
            '{}'
        ),
        coalesce(
            (SELECT mlops.milliseconds_time(m.creation_timestamp_ms)
                FROM "@mlflow".logged_models AS m WHERE m.model_id = v.model_id),
            (SELECT mlops.milliseconds_time(coalesce(r.end_time, r.start_time))
                FROM "@mlflow".runs AS r WHERE r.run_uuid = v.run_id)
        ),
        coalesce(
            (SELECT t.value::text FROM "@mlflow".tags AS t
                WHERE t.run_uuid = v.run_id AND t.key = 'mlflow.source.git.commit'),
            (SELECT nullif(r.source_version::text, '') FROM "@mlflow".runs AS r
                WHERE r.run_uuid = v.run_id)
        ),
        coalesce(
            (SELECT jsonb_object_agg(t.key, t.value) FROM "@mlflow".registered_model_tags AS t
                WHERE t.workspace = v.workspace AND t.name = v.name),
            '{}'
        ) || coalesce(
            (SELECT jsonb_object_agg(t.key, t.value) FROM "@mlflow".model_version_tags AS t
                WHERE t.workspace = v.workspace AND t.name = v.name AND t.version = v.version),
            '{}'
        )
    FROM mlops.mlflow_model_versions() AS v
$$ $function$, '"@mlflow"', mlflow_schema);

-- What the version's run logged, and what other runs logged for its model since. Where the run is
-- shared, the keys that MLflow recorded for this very model are read from that record instead. The
-- record has no flag for NaN: the run's metrics know.
EXECUTE replace($function$
CREATE FUNCTION mlops.mlflow_model_metrics() RETURNS TABLE (
    workspace text, name text, version integer, metric_name text, value double precision,
    dataset_type text, evaluated_at timestamptz, step bigint, run_id text
) LANGUAGE sql STABLE AS $$
    SELECT v.workspace, v.name, v.version, mlops.metric_name(m.key),
        mlops.metric_value(m.value, m.is_nan), mlops.metric_dataset_type(m.key),
        mlops.milliseconds_time(m."timestamp"), m.step, m.run_uuid::text
    FROM mlops.mlflow_model_versions() AS v
    JOIN "@mlflow".metrics AS m ON m.run_uuid = v.run_id
    WHERE NOT EXISTS (
        SELECT FROM "@mlflow".logged_model_metrics AS o
        WHERE v.shares_run AND o.model_id = v.model_id AND o.metric_name = m.key
    )
    UNION ALL
    SELECT v.workspace, v.name, v.version, mlops.metric_name(o.metric_name),
        mlops.metric_value(
            o.metric_value,
            o.metric_value = 0 AND EXISTS (
                SELECT FROM "@mlflow".metrics AS n
                WHERE n.run_uuid = o.run_id AND n.key = o.metric_name AND n.step = o.metric_step
                    AND n."timestamp" = o.metric_timestamp_ms AND n.is_nan
            )
        ),
        mlops.metric_dataset_type(o.metric_name),
        mlops.milliseconds_time(o.metric_timestamp_ms), o.metric_step, o.run_id::text
    FROM mlops.mlflow_model_versions() AS v
    JOIN "@mlflow".logged_model_metrics AS o ON o.model_id = v.model_id
    WHERE v.shares_run OR o.run_id IS DISTINCT FROM v.run_id
$$ $function$, '"@mlflow"', mlflow_schema);

EXECUTE replace($function$
CREATE FUNCTION mlops.mlflow_model_training_runs() RETURNS TABLE (
    run_id text, workspace text, name text, version integer, params jsonb,
    dataset_start timestamptz, dataset_end timestamptz, started_at timestamptz,
    finished_at timestamptz, status text, git_sha text
) LANGUAGE sql STABLE AS $$
    SELECT r.run_uuid::text, v.workspace, v.name, v.version,
        coalesce(
            (SELECT jsonb_object_agg(p.key, p.value) FROM "@mlflow".params AS p
                WHERE p.run_uuid = r.run_uuid),
            '{}'
        ),
        mlops.utc_time(coalesce(
            (SELECT t.value::text FROM "@mlflow".tags AS t
                WHERE t.run_uuid = r.run_uuid AND t.key = 'dataset_start'),
            (SELECT p.value::text FROM "@mlflow".params AS p
                WHERE p.run_uuid = r.run_uuid AND p.key = 'dataset_start')
        )),
        mlops.utc_time(coalesce(
            (SELECT t.value::text FROM "@mlflow".tags AS t
                WHERE t.run_uuid = r.run_uuid AND t.key = 'dataset_end'),
            (SELECT p.value::text FROM "@mlflow".params AS p
                WHERE p.run_uuid = r.run_uuid AND p.key = 'dataset_end')
        )),
        mlops.milliseconds_time(r.start_time), mlops.milliseconds_time(r.end_time),
        CASE r.status WHEN 'FINISHED' THEN 'completed' ELSE lower(r.status) END,
        coalesce(
            (SELECT t.value::text FROM "@mlflow".tags AS t
                WHERE t.run_uuid = r.run_uuid AND t.key = 'mlflow.source.git.commit'),
            nullif(r.source_version::text, '')
        )
    FROM mlops.mlflow_model_versions() AS v
    JOIN "@mlflow".runs AS r ON r.run_uuid = v.run_id
$$ $function$, '"@mlflow"', mlflow_schema);

END $install$;

CREATE VIEW mlops.models AS SELECT * FROM mlops.mlflow_models();
CREATE VIEW mlops.model_metrics AS SELECT * FROM mlops.mlflow_model_metrics();
CREATE VIEW mlops.model_training_runs AS SELECT * FROM mlops.mlflow_model_training_runs();

COMMENT ON VIEW mlops.models IS
    'Every model version in the registry: what it is, what it was trained with, how good it was';
COMMENT ON VIEW mlops.model_metrics IS
    'Every metric point of every model version; "test/ic" is metric ic of dataset_type test';
COMMENT ON VIEW mlops.model_training_runs IS
    'The run that trained each model version: parameters, data period, times, status, code version';
