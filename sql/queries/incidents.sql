-- name: served_signals
-- Which signals did a strategy serve in each session, for how many names, and when last?
SELECT p.session, s.signal_name, s.horizon, s.model_name, s.model_version,
    count(DISTINCT p.entity_id) FILTER (WHERE p.signal <> 'NaN') AS names,
    max(p.signal_time) AS signal_time
FROM mlops.drift_prediction_points AS p
JOIN mlops.drift_signals AS s USING (signal_id)
WHERE p.session BETWEEN %(start)s AND %(end)s AND p.signal_id = ANY (ARRAY(
        SELECT signal_id FROM mlops.drift_signals WHERE strategy_id = %(strategy_id)s
    ))
GROUP BY p.session, s.signal_id
ORDER BY p.session, max(p.signal_time), s.signal_id;

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
