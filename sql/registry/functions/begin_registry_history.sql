--! requires: mlflow
-- Enter what the registry holds now. Into an empty history versions and models enter with their
-- creation time; for everything else the start is unknown, so it is now. What a trigger has recorded
-- already stays.
CREATE OR REPLACE FUNCTION mlops.begin_registry_history(because text) RETURNS void
LANGUAGE sql AS $$
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
        item ->> 'user_id', because
    FROM (
        SELECT 'alias' AS kind, to_jsonb(a) AS item FROM "@mlflow".registered_model_aliases AS a
        UNION ALL SELECT kind, to_jsonb(v)
        FROM "@mlflow".model_versions AS v, unnest(ARRAY['version', 'stage']) AS kind
        UNION ALL SELECT 'tag', to_jsonb(t) FROM "@mlflow".model_version_tags AS t
        UNION ALL SELECT 'model', to_jsonb(m) FROM "@mlflow".registered_models AS m
    ) AS existing
    WHERE mlops.registry_subject(kind, item) IS NOT NULL
    ON CONFLICT DO NOTHING
$$;
