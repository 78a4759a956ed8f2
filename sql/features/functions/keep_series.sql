-- A series never changes its entity, feature or version: its points would become those of another.
-- Writers have the right to update, because they lock series, and PostgreSQL has no right to lock only.
CREATE OR REPLACE FUNCTION mlops.keep_series() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'series % of % does not change', OLD.feature_name, OLD.entity_key
        USING ERRCODE = 'object_not_in_prerequisite_state';
END
$$;

CREATE OR REPLACE TRIGGER keep_series BEFORE UPDATE ON mlops.feature_series
    FOR EACH ROW EXECUTE FUNCTION mlops.keep_series();
