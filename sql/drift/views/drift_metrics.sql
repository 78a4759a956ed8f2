-- One row per session, with the metrics as columns.
CREATE OR REPLACE VIEW mlops.drift_metrics AS
SELECT
    v.session AS date,
    v.strategy_id,
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
    max(r.model_version) AS model_version,
    -- The worst alert of the session. One that a louder alert inhibits is not worse than that.
    coalesce((
        SELECT a.severity FROM mlops.drift_alerts AS a
        WHERE a.strategy_id = v.strategy_id AND v.session BETWEEN a.session AND a.last_session
            AND a.state IN ('open', 'resolved') AND a.note <> 'no longer so after a revision'
        ORDER BY array_position(ARRAY['emergency', 'critical', 'warning'], a.severity)
        LIMIT 1
    ), 'ok') AS status
FROM mlops.drift_latest AS v
LEFT JOIN mlops.drift_runs AS r ON (r.strategy_id, r.session) = (v.strategy_id, v.session)
WHERE dimension = '' AND metric IN (
    'ic', 'ic_5d_avg', 'psi_max', 'sharpe_5d', 'sharpe_20d', 'ic_alert', 'psi_alert', 'sharpe_alert'
)
GROUP BY v.strategy_id, v.session;
