--! requires: mlflow
-- An overridden change of a version's file: its frozen row changes (a NULL checksum: it is deleted),
-- and the history of the version gets a new state with the file, the user and the reason.
CREATE OR REPLACE FUNCTION mlops.change_version_file(
    of_workspace text, of_name text, of_version integer, of_place text, of_location text,
    new_checksum text, new_size bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    of_path text := CASE WHEN of_place = of_location THEN regexp_replace(of_location, '^.*/', '')
        ELSE substr(of_location, length(of_place) + 2) END;
    state record;
BEGIN
    IF new_checksum IS NULL THEN
        DELETE FROM mlops.version_files
        WHERE workspace = of_workspace AND name = of_name AND version = of_version
            AND path = of_path;
    ELSE
        INSERT INTO mlops.version_files
            (workspace, name, version, path, location, place, checksum, size_bytes)
        VALUES (of_workspace, of_name, of_version, of_path, of_location, of_place, new_checksum,
            new_size)
        ON CONFLICT (workspace, name, version, path) DO UPDATE
            SET checksum = excluded.checksum, size_bytes = excluded.size_bytes,
                location = excluded.location, place = excluded.place,
                registered_at = clock_timestamp(), db_user = session_user;
    END IF;
    SELECT value, detail INTO state FROM mlops.registry_history
    WHERE workspace = of_workspace AND name = of_name AND kind = 'version'
        AND subject = of_version::text AND valid_to IS NULL;
    PERFORM mlops.registry_change(
        'version', of_workspace, of_name, of_version::text, of_workspace, of_name,
        of_version::text, of_version, state.value,
        coalesce(state.detail, '{}') || jsonb_build_object('file', of_path, 'checksum', new_checksum));
END $$;
