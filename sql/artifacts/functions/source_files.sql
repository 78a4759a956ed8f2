-- The ledger rows of a model version.
CREATE OR REPLACE FUNCTION mlops.source_files(source text, run_id text)
RETURNS SETOF mlops.model_artifacts LANGUAGE sql STABLE AS $$
    SELECT a.*
    FROM mlops.source_paths(source, run_id) AS file
    JOIN mlops.model_artifacts AS a USING (artifact_id)
$$;
