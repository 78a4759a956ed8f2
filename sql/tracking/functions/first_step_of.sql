--! requires: mlflow metrics_rebuild
-- The first step of a series that has a value, between the mark of a rank and the mark before it. Without
-- a rank: after the last mark, whose rank is `marked`.
CREATE OR REPLACE FUNCTION mlops.first_step_of(
    run text, series text, extreme double precision, rank bigint, marked bigint,
    first_ms bigint, last_ms bigint
) RETURNS TABLE (step bigint) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT point.step
    FROM "@mlflow".metrics AS point
    WHERE point.run_uuid = run
        AND point.key = series
        AND point."timestamp" BETWEEN first_ms AND last_ms
        AND point.value = extreme
        AND NOT point.is_nan
        AND point.step >= coalesce(
            (SELECT mark.step FROM mlops.mark_at(run, series, coalesce(rank - 128, marked)) AS mark),
            -9223372036854775808
        )
        AND point.step <= coalesce(
            (SELECT mark.step FROM mlops.mark_at(run, series, rank) AS mark), 9223372036854775807
        )
    ORDER BY point.step
    LIMIT 1
$$;
