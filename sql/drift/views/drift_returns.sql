-- Realized returns with the names of their keys.
CREATE OR REPLACE VIEW mlops.drift_returns AS
SELECT
    r.strategy_id, r.session, r.horizon, e.entity_key, r.known_at, r.value, r.recorded_at
FROM mlops.drift_return_points AS r
JOIN mlops.drift_entities AS e USING (entity_id);
