--! requires: mlflow metrics_rebuild
-- The last mark up to a rank. ORDER BY makes the planner use the index of ranks without
-- statistics. PostgreSQL inlines the function.
CREATE OR REPLACE FUNCTION mlops.mark_at(run text, series text, at bigint) RETURNS SETOF mlops.metric_marks
LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT *
    FROM mlops.metric_marks
    WHERE run_uuid = run AND key = series AND rank <= at
    ORDER BY rank DESC
    LIMIT 1
$$;
