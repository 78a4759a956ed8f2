--! requires: mlflow
-- Freeze the current files of a version; nothing if they are frozen already, or if it has none.
CREATE OR REPLACE FUNCTION mlops.register_files(
    of_workspace text, of_name text, of_version integer, place text, run_id text
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO mlops.version_files
        (workspace, name, version, path, location, place, checksum, size_bytes)
    SELECT of_workspace, of_name, of_version, file.path, file.location,
        -- The directory that the version names; the file itself where it names a file.
        CASE WHEN right(rtrim(place, '/'), length(file.path) + 1) = '/' || file.path
            THEN file.location
            ELSE left(file.location, length(file.location) - length(file.path) - 1) END,
        file.checksum, file.size_bytes
    FROM mlops.source_paths(place, run_id) AS file
    WHERE NOT EXISTS (
        SELECT FROM mlops.version_files AS frozen
        WHERE frozen.workspace = of_workspace AND frozen.name = of_name
            AND frozen.version = of_version)
    ON CONFLICT DO NOTHING
$$;
