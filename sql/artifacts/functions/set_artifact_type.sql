-- Set the type of a current file of a run or a logged model.
-- SECURITY DEFINER: it is all that writers can change in a row of the ledger.
CREATE OR REPLACE FUNCTION mlops.set_artifact_type(
    of_path text, of_run text, of_model text, new_type text
) RETURNS SETOF bigint LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, mlops, pg_temp AS $$
    UPDATE mlops.model_artifacts SET artifact_type = new_type
    WHERE ended_at IS NULL AND artifact_path = of_path AND (run_id = of_run OR model_id = of_model)
    RETURNING artifact_id
$$;
REVOKE ALL ON FUNCTION mlops.set_artifact_type(text, text, text, text) FROM PUBLIC;
