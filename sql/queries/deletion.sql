-- name: runs_of_deleted_experiment
-- Some of the runs that go with their experiment, if that is in the deleted stage.
SELECT runs.run_uuid
FROM runs
JOIN experiments USING (experiment_id)
WHERE experiments.experiment_id = %(experiment_id)s
    AND experiments.lifecycle_stage = 'deleted'
    AND (%(workspace)s::text IS NULL OR experiments.workspace = %(workspace)s)
LIMIT %(limit)s;

-- name: delete_of_runs
-- Remove from a table what belongs to these runs. Compressed chunks are searched by ids, but not by
-- a subquery.
DELETE FROM {table} WHERE run_uuid = ANY(%(run_ids)s);

-- name: delete_traces
-- Remove the traces of an experiment; what belongs to them goes by MLflow's foreign keys.
DELETE FROM trace_info
USING experiments
WHERE trace_info.experiment_id = %(experiment_id)s
    AND experiments.experiment_id = trace_info.experiment_id
    AND experiments.lifecycle_stage = 'deleted'
    AND (%(workspace)s::text IS NULL OR experiments.workspace = %(workspace)s);
