--! requires: mlflow
CREATE OR REPLACE VIEW mlops.version_failures AS
SELECT place.workspace, place.name, place.version, failed.*
FROM mlops.mlflow_version_places() AS place
CROSS JOIN LATERAL mlops.source_failures(place.place, place.run_id) AS failed
UNION ALL
SELECT changed.workspace, changed.name, changed.version,
    -- A view keeps the collations of its columns; the ledger has another one.
    changed.location COLLATE "default",
    CASE changed.change WHEN 'missing' THEN 'missing' ELSE 'mismatch' END, now()
FROM mlops.version_changes AS changed;

COMMENT ON VIEW mlops.version_failures IS
    'Files of model versions that were found changed or missing, and not found whole since';
