-- What people decide needs the role of an operator: to accept a window, to acknowledge an alert, to
-- silence one. The monitor, a writer, keeps provisional windows, and opens, silences (as a person has
-- declared) and resolves alerts. Who may declare silences is an operator, whatever the roles are called.
CREATE OR REPLACE FUNCTION mlops.keep_decisions() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    decision text;
BEGIN
    IF TG_TABLE_NAME = 'drift_references' THEN
        decision := CASE
            WHEN TG_OP = 'INSERT' AND NEW.role <> 'provisional' THEN 'to accept a window'
            WHEN TG_OP <> 'INSERT' AND OLD.role <> 'provisional' THEN 'to change an accepted window'
        END;
    ELSIF TG_OP = 'INSERT' OR NEW.state IS DISTINCT FROM OLD.state THEN
        decision := CASE
            WHEN NEW.state = 'acknowledged' THEN 'to acknowledge an alert'
            WHEN NEW.state = 'silenced' AND NOT EXISTS (
                SELECT FROM mlops.drift_silences AS s
                WHERE s.strategy_id = NEW.strategy_id AND s.rule = NEW.rule) THEN 'to silence an alert'
        END;
    END IF;
    IF decision IS NOT NULL AND (
        NOT has_table_privilege('mlops.drift_silences', 'INSERT')
        -- An accepted window is history: only an owner of the table changes it.
        OR TG_TABLE_NAME = 'drift_references' AND TG_OP <> 'INSERT' AND NOT pg_has_role(
            (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE')) THEN
        RAISE insufficient_privilege USING MESSAGE = decision || ' takes more than a writer';
    END IF;
    RETURN coalesce(NEW, OLD);
END
$$;

CREATE OR REPLACE TRIGGER keep_decisions BEFORE INSERT OR UPDATE OR DELETE ON mlops.drift_references
    FOR EACH ROW EXECUTE FUNCTION mlops.keep_decisions();

CREATE OR REPLACE TRIGGER keep_decisions BEFORE INSERT OR UPDATE ON mlops.drift_alerts
    FOR EACH ROW EXECUTE FUNCTION mlops.keep_decisions();
