-- Read by session (the last one, a month), and removed by age.
SELECT create_hypertable(
    'mlops.served_blocks', by_range('session', INTERVAL '3 months'),
    create_default_indexes => false, migrate_data => true
);
