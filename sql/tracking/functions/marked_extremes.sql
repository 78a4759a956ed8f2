--! requires: mlflow metrics_rebuild
-- The extremes of a series up to its last mark, and the rank of that mark; no row if a mark is of an earlier
-- version. PostgreSQL inlines the function.
CREATE OR REPLACE FUNCTION mlops.marked_extremes(run text, series text)
RETURNS TABLE (rank bigint, min double precision, max double precision)
LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT max(mark.rank), min(mark.min_value), max(mark.max_value)
    FROM mlops.metric_marks AS mark
    WHERE mark.run_uuid = run AND mark.key = series
    HAVING bool_and(mark.min_value IS NOT NULL)
$$;
