-- Set the login of the session, whatever the statement gives.
CREATE OR REPLACE FUNCTION mlops.record_login() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.db_user := session_user;
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER record_login BEFORE INSERT OR UPDATE ON mlops.drift_references
    FOR EACH ROW EXECUTE FUNCTION mlops.record_login();

CREATE OR REPLACE TRIGGER record_login BEFORE INSERT OR UPDATE ON mlops.drift_silences
    FOR EACH ROW EXECUTE FUNCTION mlops.record_login();

CREATE OR REPLACE TRIGGER record_login BEFORE INSERT OR UPDATE ON mlops.drift_repairs
    FOR EACH ROW EXECUTE FUNCTION mlops.record_login();

CREATE OR REPLACE TRIGGER record_login BEFORE INSERT OR UPDATE ON mlops.drift_calendar_overrides
    FOR EACH ROW EXECUTE FUNCTION mlops.record_login();

CREATE OR REPLACE TRIGGER record_login BEFORE INSERT OR UPDATE ON mlops.imported_sessions
    FOR EACH ROW EXECUTE FUNCTION mlops.record_login();
