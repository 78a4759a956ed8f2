--! requires: mlflow metrics_rebuild
-- Chunks of 30 days (in milliseconds): a year is 12 chunks, so a read that crosses all of them stays
-- cheap, and at 100 million points a month one chunk's index still fits into memory.
SELECT create_hypertable(
    'metrics', by_range('timestamp', 2592000000),
    create_default_indexes => false, migrate_data => true
);
