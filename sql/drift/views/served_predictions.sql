-- Every served prediction with the names of its keys; one row for each request and entity.
CREATE OR REPLACE VIEW mlops.served_predictions AS
SELECT
    s.strategy_id, s.signal_name, s.horizon, s.model_name, s.model_version,
    b.session, e.entity_key, b.as_of, b.recorded_at, u.output, b.latency_ms, b.request_id,
    o.model_uri, o.checksum, o.code_version, f.feature_names, f.feature_versions, f.source,
    b."values"[(u.position - 1) * cardinality(f.feature_names) + 1 : u.position * cardinality(f.feature_names)]
        AS "values"
FROM mlops.served_blocks AS b
JOIN mlops.drift_signals AS s USING (signal_id)
JOIN mlops.served_origins AS o USING (origin_id)
JOIN mlops.served_feature_sets AS f USING (feature_set_id)
CROSS JOIN LATERAL unnest(b.entities, b.outputs) WITH ORDINALITY AS u (entity_id, output, position)
JOIN mlops.drift_entities AS e USING (entity_id);
