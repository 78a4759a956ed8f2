-- Keep the content of a file in the database that is replaced or deleted, if its path is one of the kept
-- ones. It is still stored here: what takes the last path away frees the content afterwards, and the
-- reference locks it. SECURITY DEFINER: writers change neither the ledger nor what is kept.
CREATE OR REPLACE FUNCTION mlops.keep_former_content() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, mlops, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM mlops.kept_paths AS kept
        WHERE kept.kept_to IS NULL
            AND NEW.artifact_path LIKE mlops.like_pattern(kept.pattern) ESCAPE '\'
    ) THEN
        INSERT INTO mlops.former_contents (artifact_id, content_id)
        SELECT NEW.artifact_id, content.content_id FROM mlops.artifact_contents AS content
        WHERE content.sha256 = decode(NEW.checksum, 'hex')
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;
-- A trigger on a table of one's own would keep what it likes.
REVOKE ALL ON FUNCTION mlops.keep_former_content() FROM PUBLIC;

CREATE OR REPLACE TRIGGER mlops_keep_former AFTER UPDATE ON mlops.model_artifacts
    FOR EACH ROW WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL
        AND starts_with(NEW.location, 'timescaledb-artifacts:/'))
    EXECUTE FUNCTION mlops.keep_former_content();
