-- Record every change of an alert, by any path, and notify listeners. A trigger keeps the history
-- so that no code path can forget it. SECURITY DEFINER: the history is written by it alone.
CREATE OR REPLACE FUNCTION mlops.keep_alert_history() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, mlops, pg_temp AS $$
DECLARE
    row_after mlops.drift_alerts := coalesce(NEW, OLD);
BEGIN
    IF TG_OP = 'UPDATE'
        AND (OLD.state, OLD.severity, OLD.note, OLD.silenced_until)
            IS NOT DISTINCT FROM (NEW.state, NEW.severity, NEW.note, NEW.silenced_until) THEN
        RETURN NEW;
    END IF;
    INSERT INTO mlops.drift_alert_events (
        alert_id, state_before, state_after, session, severity, changed_by, note,
        silenced_until, db_user
    ) VALUES (
        row_after.alert_id,
        CASE WHEN TG_OP <> 'INSERT' THEN OLD.state END,
        CASE WHEN TG_OP <> 'DELETE' THEN NEW.state END,
        coalesce(row_after.resolved_session, row_after.last_session),
        row_after.severity, row_after.changed_by, row_after.note, row_after.silenced_until,
        session_user
    );
    PERFORM pg_notify('mlops_drift_alerts', json_build_object(
        'strategy_id', row_after.strategy_id, 'alert_id', row_after.alert_id,
        'rule', row_after.rule, 'severity', row_after.severity, 'session', row_after.session,
        'state', CASE WHEN TG_OP <> 'DELETE' THEN NEW.state END, 'action', row_after.action
    )::text);
    RETURN row_after;
END
$$;
-- A trigger on a table of one's own would write false history.
REVOKE ALL ON FUNCTION mlops.keep_alert_history() FROM PUBLIC;

CREATE OR REPLACE TRIGGER keep_alert_history AFTER INSERT OR UPDATE OR DELETE ON mlops.drift_alerts
    FOR EACH ROW EXECUTE FUNCTION mlops.keep_alert_history();
