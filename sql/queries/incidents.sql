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
