-- name: served_signals
-- Which signals did a strategy serve in each session, how many predictions, and when last? Grouped
-- before the join, without distinct names: a third of the time for three years of 3,000 names.
SELECT p.session, s.signal_name, s.horizon, s.model_name, s.model_version, p.predictions,
    p.signal_time
FROM (
    SELECT session, signal_id, count(*) FILTER (WHERE signal <> 'NaN') AS predictions,
        max(signal_time) AS signal_time
    FROM mlops.drift_prediction_points
    WHERE session BETWEEN %(start)s AND %(end)s AND signal_id = ANY (ARRAY(
            SELECT signal_id FROM mlops.drift_signals WHERE strategy_id = %(strategy_id)s
        ))
    GROUP BY session, signal_id
) AS p
JOIN mlops.drift_signals AS s USING (signal_id)
ORDER BY p.session, p.signal_time, p.signal_id;

-- name: served_model_uris
-- Under which names did a strategy load its models?
SELECT DISTINCT o.model_uri
FROM mlops.served_blocks AS b
JOIN mlops.served_origins AS o USING (origin_id)
WHERE b.session BETWEEN %(start)s AND %(end)s AND b.signal_id = ANY (ARRAY(
        SELECT signal_id FROM mlops.drift_signals WHERE strategy_id = %(strategy_id)s
    ))
    AND o.model_uri IS NOT NULL
ORDER BY o.model_uri;

-- name: last_signalled
-- The last session in which a strategy signalled.
SELECT max(session) FROM mlops.drift_prediction_points
WHERE signal_id = ANY (ARRAY(
    SELECT signal_id FROM mlops.drift_signals WHERE strategy_id = %(strategy_id)s
));

-- name: last_predicted_session
-- The last session up to a moment or a date in which a strategy predicted an entity.
SELECT max(p.session) FROM mlops.drift_prediction_points AS p
WHERE p.signal_id = ANY (ARRAY(
        SELECT signal_id FROM mlops.drift_signals WHERE strategy_id = %(strategy_id)s
    ))
    AND p.entity_id = (
        SELECT entity_id FROM mlops.drift_entities WHERE entity_key = %(entity)s
    )
    AND (%(at)s::timestamptz IS NULL OR p.signal_time <= %(at)s)
    AND (%(session)s::date IS NULL OR p.session = %(session)s);

-- name: predictions_of_entity
-- Every prediction of an entity in a session, up to a moment.
SELECT s.signal_name, s.horizon, s.model_name, s.model_version, p.session, p.signal_time, p.signal,
    p.recorded_at
FROM mlops.drift_prediction_points AS p
JOIN mlops.drift_signals AS s USING (signal_id)
WHERE p.session = %(session)s AND p.signal_id = ANY (ARRAY(
        SELECT signal_id FROM mlops.drift_signals WHERE strategy_id = %(strategy_id)s
    ))
    AND p.entity_id = (
        SELECT entity_id FROM mlops.drift_entities WHERE entity_key = %(entity)s
    )
    AND (%(at)s::timestamptz IS NULL OR p.signal_time <= %(at)s)
ORDER BY p.signal_time, s.signal_id;

-- name: served_origins
-- With which files, code, packages and versions of features were predictions made, by session?
SELECT DISTINCT b.session, s.model_name, s.model_version, o.checksum, o.code_version, o.environment,
    f.feature_names, f.feature_versions
FROM mlops.served_blocks AS b
JOIN mlops.drift_signals AS s USING (signal_id)
JOIN mlops.served_origins AS o USING (origin_id)
JOIN mlops.served_feature_sets AS f USING (feature_set_id)
WHERE b.session BETWEEN %(start)s AND %(end)s AND b.signal_id = ANY (ARRAY(
        SELECT signal_id FROM mlops.drift_signals WHERE strategy_id = %(strategy_id)s
    ))
ORDER BY b.session;

-- name: revised_features
-- Which values of some features were revised in a period, by day, by whom? Events of the year before.
SELECT s.feature_name, w.producer, date_trunc('hour', p.ingest_time) AS known_at,
    count(*) AS cells, count(DISTINCT s.entity_key) AS entities,
    min(p.event_time) AS first_event, max(p.event_time) AS last_event
FROM mlops.feature_series AS s
JOIN mlops.feature_points AS p USING (series_id)
JOIN mlops.feature_writes AS w USING (write_id)
WHERE s.feature_name = ANY (%(features)s)
    AND p.event_time >= %(start)s::timestamptz - interval '1 year'
    AND p.ingest_time >= %(start)s AND p.ingest_time < %(end)s
    AND EXISTS (
        SELECT FROM mlops.feature_points AS o
        WHERE o.series_id = p.series_id AND o.event_time = p.event_time
            AND o.ingest_time < p.ingest_time
    )
GROUP BY s.feature_name, w.producer, date_trunc('hour', p.ingest_time)
ORDER BY known_at, s.feature_name;

-- name: new_feature_versions
-- Which versions of some features were first written in a period, by whom? The first of each is none.
SELECT s.feature_name, s.feature_version, min(w.written_at) AS written_at,
    (array_agg(w.producer ORDER BY w.written_at))[1] AS producer
FROM mlops.feature_series AS s
CROSS JOIN LATERAL (
    SELECT p.write_id FROM mlops.feature_points AS p
    WHERE p.series_id = s.series_id ORDER BY p.event_time, p.ingest_time LIMIT 1
) AS p
JOIN mlops.feature_writes AS w USING (write_id)
WHERE s.feature_name = ANY (%(features)s) AND s.feature_version > (
    SELECT min(f.feature_version) FROM mlops.feature_series AS f
    WHERE f.feature_name = s.feature_name
)
GROUP BY s.feature_name, s.feature_version
HAVING min(w.written_at) >= %(start)s AND min(w.written_at) < %(end)s
ORDER BY written_at;

-- name: new_definitions
-- Which views with some features were registered in a period, by whom?
SELECT v.name, v.version, v.registered_at, v.registered_by,
    array_agg(d.feature_name ORDER BY d.ordinal) AS features
FROM mlops.feature_views AS v
JOIN mlops.feature_definitions AS d ON (d.view_name, d.version) = (v.name, v.version)
WHERE d.feature_name = ANY (%(features)s)
    AND v.registered_at >= %(start)s AND v.registered_at < %(end)s
GROUP BY v.name, v.version
ORDER BY v.registered_at;

-- name: schema_changes
-- Which migrations changed the schema in a period?
SELECT applied_at::date AS day, count(*) AS migrations, max(name) AS name
FROM mlops.migrations
WHERE applied_at >= %(start)s AND applied_at < %(end)s
GROUP BY applied_at::date
ORDER BY day;

-- name: served_span
-- What are the first and the last session of which features and outputs are recorded?
SELECT min(session), max(session) FROM mlops.served_blocks
WHERE signal_id = ANY (ARRAY(
    SELECT signal_id FROM mlops.drift_signals WHERE strategy_id = %(strategy_id)s
));

-- name: alias_states
-- What an alias of a model pointed at in a period, who set it, and who removed it. Users as JSON: a
-- schema that waits for its migration has no such columns.
SELECT version, valid_from AS since, valid_to AS until, coalesce(reason, '') AS reason,
    db_user, state ->> 'authenticated_user' AS authenticated, coalesce(
        state ->> 'claimed_user',
        CASE WHEN state ->> 'authenticated_user' IS NULL THEN mlflow_user END
    ) AS claimed,
    coalesce((detail ->> 'override')::boolean, false) AS is_override,
    coalesce(ended, '') = 'deleted' AS is_removed,
    coalesce(ended_db_user, '') AS ended_db_user,
    state ->> 'ended_authenticated_user' AS ended_authenticated, coalesce(
        state ->> 'ended_claimed_user',
        CASE WHEN state ->> 'ended_authenticated_user' IS NULL THEN ended_mlflow_user END
    ) AS ended_claimed
FROM mlops.registry_history AS h
CROSS JOIN LATERAL to_jsonb(h) AS state
WHERE workspace = 'default' AND name = %(model)s AND kind = 'alias' AND subject = %(alias)s
    AND valid_from < %(end)s AND (valid_to IS NULL OR valid_to > %(start)s)
ORDER BY valid_from;
