--! requires: mlflow metrics_rebuild
-- The last mark up to a rank: by the index of ranks, whatever the statistics say, because of the order.
-- PostgreSQL inlines it.
CREATE OR REPLACE FUNCTION mlops.mark_at(run text, series text, at bigint) RETURNS SETOF mlops.metric_marks
LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT *
    FROM mlops.metric_marks
    WHERE run_uuid = run AND key = series AND rank <= at
    ORDER BY rank DESC
    LIMIT 1
$$;
