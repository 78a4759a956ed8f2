--! requires: mlflow
-- The dataset type of a metric key: "test/ic" is the metric "ic" of the dataset type "test"; any
-- other key has none.
CREATE OR REPLACE FUNCTION mlops.metric_dataset_type(key text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN split_part(key, '/', 1) IN ('train', 'val', 'test', 'backtest', 'live')
            AND strpos(key, '/') > 0 THEN split_part(key, '/', 1)
    END;
$$;
