-- A daily run reads one session and a chart a year, so a quarter per chunk keeps both cheap.
SELECT create_hypertable(
    'mlops.drift_prediction_points', by_range('session', INTERVAL '3 months'),
    create_default_indexes => false, migrate_data => true
);
SELECT create_hypertable(
    'mlops.drift_return_points', by_range('session', INTERVAL '3 months'),
    create_default_indexes => false, migrate_data => true
);
SELECT create_hypertable(
    'mlops.drift_strategy_returns', by_range('session', INTERVAL '10 years'),
    create_default_indexes => false, migrate_data => true
);
