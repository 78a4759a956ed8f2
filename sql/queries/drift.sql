-- name: lock_to_record
-- Wait while a monitor computes this strategy; recorders do not wait for each other.
SELECT pg_advisory_xact_lock_shared(hashtextextended('drift ' || %(strategy_id)s::text, 0));

-- name: lock_to_compute
-- Be the only one who computes or changes this strategy, until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('drift ' || %(strategy_id)s::text, 0));

-- name: stage_predictions
-- A place for the rows to arrive in.
CREATE TEMPORARY TABLE staged (
    entity_key text NOT NULL, session date NOT NULL, signal_time timestamptz NOT NULL,
    signal double precision NOT NULL, horizon integer NOT NULL, signal_name text NOT NULL,
    model_name text NOT NULL, model_version text NOT NULL, entity_group text NOT NULL
) ON COMMIT DROP;

-- name: copy_predictions
-- Receive the rows.
COPY staged FROM STDIN (FORMAT binary);

-- name: add_entities
-- Number the names that are new.
INSERT INTO mlops.drift_entities (entity_key)
SELECT DISTINCT entity_key FROM staged ORDER BY entity_key
ON CONFLICT DO NOTHING;

-- name: add_signals
-- Number the signals that are new.
INSERT INTO mlops.drift_signals (strategy_id, signal_name, horizon, model_name, model_version)
SELECT DISTINCT %(strategy_id)s, signal_name, horizon, model_name, model_version FROM staged
ON CONFLICT DO NOTHING;

-- name: add_predictions
-- Keep the rows that are not there yet; a session that was computed without them is stale.
WITH added AS (
    INSERT INTO mlops.drift_prediction_points (
        signal_id, session, entity_id, signal_time, signal, entity_group
    )
    SELECT s.signal_id, t.session, e.entity_id, t.signal_time, t.signal, nullif(t.entity_group, '')
    FROM staged AS t
    JOIN mlops.drift_entities AS e USING (entity_key)
    JOIN mlops.drift_signals AS s USING (signal_name, horizon, model_name, model_version)
    WHERE s.strategy_id = %(strategy_id)s
    ORDER BY s.signal_id, t.session, e.entity_id, t.signal_time
    ON CONFLICT DO NOTHING
    RETURNING session
), marked AS (
    INSERT INTO mlops.drift_stale (strategy_id, session, reason)
    SELECT DISTINCT r.strategy_id, r.session, 'predictions'
    FROM added JOIN mlops.drift_runs AS r USING (session)
    WHERE r.strategy_id = %(strategy_id)s
)
SELECT count(*) FROM added;

-- name: contradicted_predictions
-- Which rows say another signal than the one kept for the same key?
-- (OFFSET 0 keeps it one lookup by key for each row, whatever the planner knows of the tables.)
SELECT t.entity_key, t.signal_name, t.signal_time, t.signal, p.signal AS kept
FROM staged AS t
JOIN mlops.drift_entities AS e USING (entity_key)
JOIN mlops.drift_signals AS s USING (signal_name, horizon, model_name, model_version)
CROSS JOIN LATERAL (
    SELECT p.signal FROM mlops.drift_prediction_points AS p
    WHERE p.signal_id = s.signal_id AND p.session = t.session AND p.entity_id = e.entity_id
        AND p.signal_time = t.signal_time
    OFFSET 0
) AS p
WHERE s.strategy_id = %(strategy_id)s AND p.signal IS DISTINCT FROM t.signal
ORDER BY t.entity_key, t.signal_time
LIMIT 11;

-- name: analyze_staged
-- Tell the planner how much arrived.
ANALYZE staged;

-- name: drop_staged
-- Let the next recording in the same transaction begin afresh.
DROP TABLE staged;

-- name: stage_returns
-- A place for the rows to arrive in.
CREATE TEMPORARY TABLE staged (
    entity_key text NOT NULL, session date NOT NULL, horizon integer NOT NULL,
    known_at timestamptz, value double precision NOT NULL
) ON COMMIT DROP;

-- name: copy_returns
-- Receive the rows.
COPY staged FROM STDIN (FORMAT binary);

-- name: add_returns
-- Keep what is new: a row that says when it became known, unless it is there; one that does not
-- say, where it differs from what is known now. A session computed without them is stale.
WITH latest AS (
    SELECT DISTINCT ON (r.session, r.horizon, r.entity_id)
        r.session, r.horizon, r.entity_id, r.value
    FROM mlops.drift_return_points AS r
    WHERE r.strategy_id = %(strategy_id)s
        AND r.session BETWEEN (SELECT min(session) FROM staged)
            AND (SELECT max(session) FROM staged)
    ORDER BY r.session, r.horizon, r.entity_id, r.known_at DESC
), added AS (
    INSERT INTO mlops.drift_return_points (
        strategy_id, session, horizon, entity_id, known_at, value
    )
    SELECT
        %(strategy_id)s, t.session, t.horizon, e.entity_id,
        coalesce(t.known_at, transaction_timestamp()), t.value
    FROM staged AS t
    JOIN mlops.drift_entities AS e USING (entity_key)
    LEFT JOIN latest AS l USING (session, horizon, entity_id)
    WHERE t.known_at IS NOT NULL OR l.value IS DISTINCT FROM t.value
    ORDER BY t.session, t.horizon, e.entity_id
    ON CONFLICT DO NOTHING
    RETURNING session
), marked AS (
    INSERT INTO mlops.drift_stale (strategy_id, session, reason)
    SELECT DISTINCT r.strategy_id, r.session, 'returns'
    FROM added JOIN mlops.drift_runs AS r USING (session)
    WHERE r.strategy_id = %(strategy_id)s
)
SELECT count(*) FROM added;

-- name: contradicted_returns
-- Which rows say another return than the one kept for the same key?
SELECT
    t.entity_key, t.session, t.horizon,
    coalesce(t.known_at, transaction_timestamp()) AS known_at, t.value, r.value AS kept
FROM staged AS t
JOIN mlops.drift_entities AS e USING (entity_key)
CROSS JOIN LATERAL (
    SELECT r.value FROM mlops.drift_return_points AS r
    WHERE r.strategy_id = %(strategy_id)s AND r.session = t.session AND r.horizon = t.horizon
        AND r.entity_id = e.entity_id
        AND r.known_at = coalesce(t.known_at, transaction_timestamp())
    OFFSET 0
) AS r
WHERE r.value IS DISTINCT FROM t.value
ORDER BY t.session, t.entity_key
LIMIT 11;

-- name: stage_strategy_returns
-- A place for the rows to arrive in.
CREATE TEMPORARY TABLE staged (
    session date NOT NULL, known_at timestamptz, value double precision NOT NULL
) ON COMMIT DROP;

-- name: copy_strategy_returns
-- Receive the rows.
COPY staged FROM STDIN (FORMAT binary);

-- name: add_strategy_returns
-- Keep what is new, as for returns.
WITH latest AS (
    SELECT DISTINCT ON (r.session) r.session, r.value
    FROM mlops.drift_strategy_returns AS r
    WHERE r.strategy_id = %(strategy_id)s
    ORDER BY r.session, r.known_at DESC
), added AS (
    INSERT INTO mlops.drift_strategy_returns (strategy_id, session, known_at, value)
    SELECT %(strategy_id)s, t.session, coalesce(t.known_at, transaction_timestamp()), t.value
    FROM staged AS t
    LEFT JOIN latest AS l USING (session)
    WHERE t.known_at IS NOT NULL OR l.value IS DISTINCT FROM t.value
    ON CONFLICT DO NOTHING
    RETURNING session
), marked AS (
    INSERT INTO mlops.drift_stale (strategy_id, session, reason)
    SELECT DISTINCT r.strategy_id, r.session, 'strategy returns'
    FROM added JOIN mlops.drift_runs AS r USING (session)
    WHERE r.strategy_id = %(strategy_id)s
)
SELECT count(*) FROM added;

-- name: contradicted_strategy_returns
-- Which rows say another return than the one kept for the same key?
SELECT t.session, coalesce(t.known_at, transaction_timestamp()) AS known_at, t.value, r.value AS kept
FROM staged AS t
JOIN mlops.drift_strategy_returns AS r
    ON r.strategy_id = %(strategy_id)s AND r.session = t.session
        AND r.known_at = coalesce(t.known_at, transaction_timestamp())
WHERE r.value IS DISTINCT FROM t.value
ORDER BY t.session
LIMIT 11;
