--! requires: mlflow
-- Every model version with the parameters, metrics and tags of its run, overridden by those of
-- its logged model.
CREATE OR REPLACE FUNCTION mlops.mlflow_models() RETURNS TABLE (
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
$$;
