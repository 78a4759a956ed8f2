-- Predictions with the names of their keys.
CREATE OR REPLACE VIEW mlops.drift_predictions AS
SELECT
    s.strategy_id, s.signal_name, s.horizon, s.model_name, s.model_version,
    p.session, e.entity_key, p.entity_group, p.signal_time, p.signal, p.recorded_at
FROM mlops.drift_prediction_points AS p
JOIN mlops.drift_signals AS s USING (signal_id)
JOIN mlops.drift_entities AS e USING (entity_id);
