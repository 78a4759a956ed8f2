--! requires: mlflow metrics_rebuild functions
--! replaces: community/0104_compress_metrics
-- Chunks are compressed when they are a week old: each series by itself, in the order in which it is
-- read, so that a read decompresses one series. Late points and deletions of runs still work.
SELECT set_integer_now_func('"@mlflow".metrics', 'mlops.now_ms', replace_if_exists => true);
ALTER TABLE "@mlflow".metrics SET (
    timescaledb.compress,
    timescaledb.compress_segmentby = 'run_uuid, key',
    timescaledb.compress_orderby = 'step, "timestamp"'
);
SELECT add_compression_policy('"@mlflow".metrics', compress_after => BIGINT '604800000');
