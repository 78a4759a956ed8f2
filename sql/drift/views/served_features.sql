-- Every value that a model saw; one row for each request, entity and feature. `value` is null where
-- there was none, and where `other` holds a text or a structure; `age` counts from the event time.
CREATE OR REPLACE VIEW mlops.served_features AS
SELECT
    s.strategy_id, s.signal_name, s.horizon, s.model_name, s.model_version,
    b.session, e.entity_key, b.as_of, b.recorded_at, b.request_id, u.output,
    name.feature_name, f.feature_versions[name.position] AS feature_version, f.source,
    CASE
        WHEN cell.number - 1 = ANY (b.absent) OR b.others ? (cell.number - 1)::text THEN NULL
        ELSE b."values"[cell.number]
    END AS value,
    b.others -> (cell.number - 1)::text AS other,
    clock.event_time,
    b.as_of - clock.event_time AS age
FROM mlops.served_blocks AS b
JOIN mlops.drift_signals AS s USING (signal_id)
JOIN mlops.served_feature_sets AS f USING (feature_set_id)
CROSS JOIN LATERAL unnest(b.entities, b.outputs) WITH ORDINALITY AS u (entity_id, output, position)
CROSS JOIN LATERAL unnest(f.feature_names) WITH ORDINALITY AS name (feature_name, position)
CROSS JOIN LATERAL (
    SELECT (u.position - 1) * cardinality(f.feature_names) + name.position AS number
) AS cell
CROSS JOIN LATERAL (
    SELECT b.event_times[coalesce(b.event_positions[cell.number], 1)] AS event_time
) AS clock
JOIN mlops.drift_entities AS e USING (entity_id);
