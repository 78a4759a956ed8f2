--! replaces: timescale/0405_drift_results
-- Read by session (a day, a year of one metric): a year per chunk.
SELECT create_hypertable(
    'mlops.drift_values', by_range('session', INTERVAL '1 year'),
    create_default_indexes => false, migrate_data => true
);
SELECT create_hypertable(
    'mlops.drift_histograms', by_range('session', INTERVAL '3 months'),
    create_default_indexes => false, migrate_data => true
);
