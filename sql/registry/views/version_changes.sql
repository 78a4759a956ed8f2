--! requires: mlflow
-- Files of registered versions that are not what was registered, by the ledger: a place that was
-- redirected, rows that were written around the triggers.
CREATE OR REPLACE VIEW mlops.version_changes AS
SELECT place.workspace, place.name, place.version, file.*
FROM mlops.mlflow_version_places() AS place
CROSS JOIN LATERAL (
    SELECT coalesce(now.location, frozen.location) AS location,
        CASE WHEN now.path IS NULL THEN 'missing' WHEN frozen.path IS NULL THEN 'added'
            ELSE 'changed' END AS change,
        frozen.checksum AS registered, now.checksum AS current
    FROM (
        SELECT f.path, f.location, f.checksum FROM mlops.version_files AS f
        WHERE (f.workspace, f.name, f.version) = (place.workspace, place.name, place.version)
    ) AS frozen
    FULL JOIN (
        SELECT s.path COLLATE "C" AS path, s.location, s.checksum
        FROM mlops.source_paths(place.place, place.run_id) AS s
    ) AS now ON now.path = frozen.path
    WHERE frozen.checksum IS DISTINCT FROM now.checksum
) AS file
WHERE EXISTS (
    SELECT FROM mlops.version_files AS f
    WHERE (f.workspace, f.name, f.version) = (place.workspace, place.name, place.version));

COMMENT ON VIEW mlops.version_changes IS
    'Files of registered versions that differ from those that were registered';
