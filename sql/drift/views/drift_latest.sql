-- The latest revision of every value.
CREATE OR REPLACE VIEW mlops.drift_latest AS
SELECT DISTINCT ON (strategy_id, metric, dimension, session)
    strategy_id, session, metric, dimension, revision, value, n, status, computed_at
FROM mlops.drift_values
ORDER BY strategy_id, metric, dimension, session, revision DESC;
