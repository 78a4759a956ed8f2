-- Every stored value with its names, times and producer.
CREATE OR REPLACE VIEW mlops.feature_events AS
SELECT
    s.entity_key,
    s.feature_name,
    s.feature_version,
    p.event_time,
    p.value_double,
    p.value_json,
    p.ingest_time,
    w.producer,
    w.producer_version,
    w.run_id
FROM mlops.feature_points AS p
JOIN mlops.feature_series AS s USING (series_id)
JOIN mlops.feature_writes AS w USING (write_id);
