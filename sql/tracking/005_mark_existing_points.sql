--! requires: mlflow metrics_rebuild functions
--! replaces: base/0107_checked_points
-- MLflow's foreign key checks every point, and deleting a run looks into every chunk. The trigger on
-- metrics checks all points of a statement at once, and one on runs refuses to leave points behind: the
-- same guarantee and the same errors. Like a foreign key, a writer locks the run's row (FOR KEY SHARE).
ALTER TABLE "@mlflow".metrics DROP CONSTRAINT IF EXISTS metrics_run_uuid_fkey;

SELECT mlops.mark_run(run_uuid) FROM (SELECT DISTINCT run_uuid FROM "@mlflow".metrics) AS earlier;
