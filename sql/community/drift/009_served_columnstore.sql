-- A session is compared with research for some weeks; after a quarter it is history.
ALTER TABLE mlops.served_blocks SET (
    timescaledb.compress,
    timescaledb.compress_segmentby = 'signal_id',
    timescaledb.compress_orderby = 'session, as_of, block'
);
SELECT add_compression_policy('mlops.served_blocks', INTERVAL '3 months');
