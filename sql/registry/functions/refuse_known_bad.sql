--! requires: mlflow
-- Refuse a protected alias for a version that is known to be damaged, on every path: plain SQL,
-- and clients with MLflow's own store. The database cannot read files on other storage; our store
-- verifies them before it moves the alias.
CREATE OR REPLACE FUNCTION mlops.refuse_known_bad() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, mlops, pg_temp AS $$
DECLARE
    moved jsonb := to_jsonb(NEW);
    was jsonb := CASE WHEN TG_OP = 'UPDATE' THEN to_jsonb(OLD) END;
    protected text[] := string_to_array(replace(
        coalesce(nullif(current_setting('mlops.protected_aliases', true), ''), 'champion'),
        ' ', ''), ',');
    first_failure record;
BEGIN
    IF moved ->> 'alias' <> ALL (protected)
        OR (moved ->> 'alias', moved ->> 'version') = (was ->> 'alias', was ->> 'version')
        OR current_setting('mlops.override', true) = 'true' THEN
        RETURN NULL;
    END IF;
    SELECT location, outcome, checked_at INTO first_failure
    FROM mlops.version_failures AS failed
    WHERE failed.workspace = coalesce(moved ->> 'workspace', 'default')
        AND failed.name = moved ->> 'name' AND failed.version = (moved ->> 'version')::integer
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'version % of % cannot become %: % did not verify (%, %)',
            moved ->> 'version', moved ->> 'name', moved ->> 'alias', first_failure.location,
            first_failure.outcome, first_failure.checked_at
            USING HINT = 'Log the model again, or verify it once it is restored (mlflow-timescale '
                'artifacts verify). To override it on the record: SET mlops.override = ''true'', '
                'and say why: SET mlops.reason = ''...''.';
    END IF;
    RETURN NULL;
END $$;
-- A trigger on a table of one's own would write false history.
REVOKE ALL ON FUNCTION mlops.refuse_known_bad() FROM PUBLIC;

CREATE OR REPLACE TRIGGER mlops_guard AFTER INSERT OR UPDATE ON "@mlflow".registered_model_aliases
    FOR EACH ROW EXECUTE FUNCTION mlops.refuse_known_bad();
