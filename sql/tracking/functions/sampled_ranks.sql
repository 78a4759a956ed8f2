--! requires: mlflow metrics_rebuild
-- The ranks that MLflow samples from `first` up to, and without, `after`.
CREATE OR REPLACE FUNCTION mlops.sampled_ranks(first bigint, after bigint, buckets bigint) RETURNS bigint[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN after - first <= buckets THEN ARRAY(SELECT generate_series(first, after - 1))
        ELSE ARRAY(
            SELECT
                first + bucket * ((after - first) / buckets) + least(bucket, (after - first) % buckets)
            FROM generate_series(0, buckets - 2) AS bucket
        ) || (after - 1)
    END
$$;
