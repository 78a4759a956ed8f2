--! requires: mlflow metrics_rebuild
--! replaces: timescale/0002_metrics_hypertable
-- Chunks of 30 days (in milliseconds): a year is 12 chunks, so a read across all of them stays cheap,
-- and at 100 million points a month the index of one chunk still fits into memory.
SELECT create_hypertable(
    '"@mlflow".metrics', by_range('timestamp', 2592000000),
    create_default_indexes => false, migrate_data => true
);
