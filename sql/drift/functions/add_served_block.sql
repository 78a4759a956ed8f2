-- Record predictions of one model at one decision time, and what stands behind them.
--
-- A recorder does not wait for a monitor that computes the strategy, which may take a minute: it marks
-- the session as stale instead. The monitor removes only the marks that were there when it began to read.
CREATE OR REPLACE FUNCTION mlops.add_served_block(
    strategy text, added mlops.served_blocks, groups text[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    is_quiet boolean := pg_try_advisory_xact_lock_shared(hashtextextended('drift ' || strategy, 0));
    new_points bigint;
    contradicted text;
BEGIN
    added.recorded_at := clock_timestamp();
    INSERT INTO mlops.served_blocks SELECT added.*;
    INSERT INTO mlops.drift_prediction_points (
        signal_id, session, entity_id, signal_time, signal, entity_group
    )
    SELECT
        added.signal_id, added.session, u.entity_id, added.as_of,
        CASE WHEN abs(u.output) = 'Infinity' THEN 'NaN' ELSE u.output END, u.entity_group
    FROM unnest(added.entities, added.outputs, groups) AS u (entity_id, output, entity_group)
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS new_points = ROW_COUNT;
    IF new_points < cardinality(added.entities) THEN
        SELECT string_agg(
            format('%s %s: %s, recorded %s', e.entity_key, added.as_of, u.output, p.signal), '; '
            ORDER BY e.entity_key
        ) INTO contradicted
        FROM unnest(added.entities, added.outputs) AS u (entity_id, output)
        JOIN mlops.drift_entities AS e USING (entity_id)
        CROSS JOIN LATERAL (
            SELECT p.signal FROM mlops.drift_prediction_points AS p
            WHERE p.signal_id = added.signal_id AND p.session = added.session
                AND p.entity_id = u.entity_id AND p.signal_time = added.as_of
        ) AS p
        WHERE p.signal <> CASE WHEN abs(u.output) = 'Infinity' THEN 'NaN' ELSE u.output END;
        IF contradicted IS NOT NULL THEN
            RAISE EXCEPTION 'outputs that contradict what is recorded: %', left(contradicted, 600)
                USING ERRCODE = 'ML409';
        END IF;
    END IF;
    IF new_points > 0 AND (NOT is_quiet OR EXISTS (
        SELECT FROM mlops.drift_runs AS r
        WHERE r.strategy_id = strategy AND r.session = added.session
    )) THEN
        INSERT INTO mlops.drift_stale (strategy_id, session, reason)
        VALUES (strategy, added.session, 'predictions');
    END IF;
END
$$;
