-- One row per session, with the metrics as columns.
CREATE OR REPLACE VIEW mlops.drift_metrics AS
SELECT
    session AS date,
    strategy_id,
    max(value) FILTER (WHERE metric = 'ic') AS ic,
    max(value) FILTER (WHERE metric = 'ic_5d_avg') AS ic_5d_avg,
    max(value) FILTER (WHERE metric = 'psi_max') AS psi,
    max(value) FILTER (WHERE metric = 'sharpe_5d') AS sharpe_5d,
    max(value) FILTER (WHERE metric = 'sharpe_20d') AS sharpe_20d,
    coalesce(max(value) FILTER (WHERE metric = 'ic_alert'), 0) > 0 AS ic_alert,
    coalesce(max(value) FILTER (WHERE metric = 'psi_alert'), 0) > 0 AS psi_alert,
    coalesce(max(value) FILTER (WHERE metric = 'sharpe_alert'), 0) > 0 AS sharpe_alert,
    max(v.revision) AS revision,
    max(r.model_name) AS model_name,
    max(r.model_version) AS model_version
FROM mlops.drift_latest AS v
LEFT JOIN mlops.drift_runs AS r USING (strategy_id, session)
WHERE dimension = '' AND metric IN (
    'ic', 'ic_5d_avg', 'psi_max', 'sharpe_5d', 'sharpe_20d', 'ic_alert', 'psi_alert', 'sharpe_alert'
)
GROUP BY strategy_id, session;
