--! requires: mlflow metrics_rebuild
-- Whether a trigger on metrics sees every point of these times. When late points reach a
-- compressed chunk, TimescaleDB marks it as partially compressed at the end of the statement;
-- until then its planner leaves these points out. Other sessions are not affected.
CREATE OR REPLACE FUNCTION mlops.sees_every_point(first_ms bigint, last_ms bigint) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT NOT EXISTS (
        SELECT
        FROM timescaledb_information.chunks
        CROSS JOIN LATERAL (
            SELECT format('%I.%I', chunks.chunk_schema, chunks.chunk_name)::regclass AS id
            OFFSET 0
        ) AS chunk
        WHERE chunks.hypertable_schema = (
                SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '"@mlflow".metrics'::regclass
            )
            AND chunks.hypertable_name = 'metrics'
            AND chunks.is_compressed
            AND chunks.range_start_integer <= last_ms
            AND chunks.range_end_integer > first_ms
            AND _timescaledb_functions.chunk_status(chunk.id) & 8 = 0  -- "partially compressed"
            AND pg_relation_size(chunk.id) > 0
    )
$$;
