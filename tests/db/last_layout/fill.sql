-- Rows of everything that this layout stores, so that a test sees what a migration does to them.
INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time, last_update_time)
VALUES (1001, 'momentum', 'timescaledb-artifacts:/1001', 'active', 1, 1);
INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time,
    source_version, lifecycle_stage, artifact_uri, experiment_id)
SELECT md5('run' || n), 'run ' || n, 'UNKNOWN', '', '', 'ann', 'FINISHED', 1000 * n, '', 'active',
    'timescaledb-artifacts:/1001/' || md5('run' || n) || '/artifacts', 1001
FROM generate_series(1, 4) AS n;
INSERT INTO params (run_uuid, key, value) SELECT md5('run1'), 'lookback', '120';
INSERT INTO tags (run_uuid, key, value) SELECT md5('run1'), 'strategy_type', 'momentum';
INSERT INTO metrics (run_uuid, key, value, "timestamp", step, is_nan)
SELECT md5('run' || n), 'val/ic', sin(step), 1700000000000 + step * 60000, step, step = 7
FROM generate_series(1, 3) AS n, generate_series(0, 999) AS step;
INSERT INTO latest_metrics (run_uuid, key, value, "timestamp", step, is_nan)
SELECT DISTINCT ON (run_uuid) run_uuid, key, value, "timestamp", step, is_nan
FROM metrics ORDER BY run_uuid, step DESC;

INSERT INTO registered_models (workspace, name, creation_time, last_updated_time, description)
VALUES ('default', 'momentum', 1700000000000, 1700000000000, 'a model');
INSERT INTO model_versions (workspace, name, version, creation_time, last_updated_time, source, run_id,
    current_stage, status)
SELECT 'default', 'momentum', n, 1700000000000 + n, 1700000000000 + n,
    'runs:/' || md5('run' || n) || '/model', md5('run' || n), 'None', 'READY'
FROM generate_series(1, 2) AS n;
INSERT INTO registered_model_aliases (workspace, name, alias, version) VALUES ('default', 'momentum', 'champion', 1);
UPDATE registered_model_aliases SET version = 2 WHERE alias = 'champion';

INSERT INTO mlops.model_artifacts (location, artifact_type, checksum, size_bytes, origin)
SELECT 'timescaledb-artifacts:/1001/' || md5('run1') || '/artifacts/model/' || n, 'file',
    encode(sha256(n::text::bytea), 'hex'), n, 'logged'
FROM generate_series(1, 3) AS n;
INSERT INTO mlops.artifact_contents (sha256, size_bytes, chunk_size, chunk_sha256)
VALUES (sha256('abc'), 3, 1048576, ARRAY[sha256('abc')]);
INSERT INTO mlops.artifact_chunks SELECT content_id, 0, 'abc' FROM mlops.artifact_contents;
INSERT INTO mlops.artifact_files SELECT '/1001/abc', content_id FROM mlops.artifact_contents;
INSERT INTO mlops.artifact_checks (artifact_id, location, purpose, outcome)
SELECT artifact_id, location, 'audit', 'match' FROM mlops.model_artifacts;

INSERT INTO mlops.feature_series (entity_key, feature_name, feature_version) VALUES ('AAPL', 'rsi_14', 1);
INSERT INTO mlops.feature_writes (written_at, producer, points) VALUES ('2024-01-05 00:00+00', 'nightly', 50);
INSERT INTO mlops.feature_points (series_id, write_id, event_time, ingest_time, value_double)
SELECT 1, 1, moment, moment + interval '1 hour', extract(day FROM moment)
FROM generate_series('2022-01-01 00:00+00'::timestamptz, '2024-01-01', interval '2 weeks') AS moment;
INSERT INTO mlops.feature_views (name, version, owner) VALUES ('technical', 1, 'ann');
INSERT INTO mlops.feature_definitions VALUES ('technical', 1, 'rsi_14', 'float', 0);

INSERT INTO mlops.drift_strategies (strategy_id, calendar, first_session) VALUES ('momentum', 'XNYS', '2024-01-02');
INSERT INTO mlops.drift_calendar_overrides (calendar, session, is_session, why)
VALUES ('XNYS', '2024-01-10', false, 'storm');
INSERT INTO mlops.drift_entities (entity_key) VALUES ('AAPL'), ('MSFT');
INSERT INTO mlops.drift_signals (strategy_id, signal_name, horizon, model_name, model_version)
VALUES ('momentum', 'signal', 1, 'momentum', '2');
INSERT INTO mlops.drift_prediction_points (signal_id, session, entity_id, signal_time, signal)
SELECT 1, '2024-01-02', entity_id, '2024-01-02 21:00+00', entity_id FROM mlops.drift_entities;
INSERT INTO mlops.drift_return_points (strategy_id, session, horizon, entity_id, known_at, value)
SELECT 'momentum', '2024-01-02', 1, entity_id, '2024-01-03 21:00+00', 0.01 FROM mlops.drift_entities;
INSERT INTO mlops.drift_strategy_returns (strategy_id, session, known_at, value)
VALUES ('momentum', '2024-01-02', '2024-01-03 21:00+00', 0.002);
INSERT INTO mlops.drift_runs (strategy_id, session, revision, session_number, status, as_of)
VALUES ('momentum', '2024-01-02', 1, 0, 'ok', '2024-01-03 22:00+00');
INSERT INTO mlops.drift_values (strategy_id, session, metric, revision, value, n, status)
VALUES ('momentum', '2024-01-02', 'ic', 1, 0.04, 2, 'ok');
INSERT INTO mlops.drift_references (strategy_id, role, version, window_start, window_end, ic_n, reason)
VALUES ('momentum', 'fixed', 1, '2024-01-02', '2024-01-31', 20, 'backtest');
INSERT INTO mlops.drift_alerts (strategy_id, rule, metric, severity, state, session, last_session)
VALUES ('momentum', 'ic low', 'ic', 'warning', 'open', '2024-01-02', '2024-01-02');
UPDATE mlops.drift_alerts SET state = 'acknowledged', note = 'looking';
INSERT INTO mlops.drift_feature_prints VALUES ('momentum', '2024-01-02', 'rsi_14', '{1,2}');
