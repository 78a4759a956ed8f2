-- Returns are revised for some weeks; after a quarter a session is history.
ALTER TABLE mlops.drift_prediction_points SET (
    timescaledb.compress,
    timescaledb.compress_segmentby = 'signal_id',
    timescaledb.compress_orderby = 'session, entity_id, signal_time'
);
ALTER TABLE mlops.drift_return_points SET (
    timescaledb.compress,
    timescaledb.compress_segmentby = 'strategy_id, horizon',
    timescaledb.compress_orderby = 'session, entity_id, known_at'
);
SELECT add_compression_policy('mlops.drift_prediction_points', INTERVAL '3 months');
SELECT add_compression_policy('mlops.drift_return_points', INTERVAL '3 months');
