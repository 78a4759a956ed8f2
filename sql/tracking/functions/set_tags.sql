--! requires: mlflow
-- Set tags; the tag mlflow.runName also renames the run.
CREATE OR REPLACE FUNCTION mlops.set_tags(run text, in_workspace text, keys text[], vals text[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mlops.open_run(run, in_workspace);
    IF 'mlflow.runName' = ANY(keys) THEN
        UPDATE "@mlflow".runs SET name = vals[array_position(keys, 'mlflow.runName')] WHERE run_uuid = run;
    END IF;
    INSERT INTO "@mlflow".tags (run_uuid, key, value)
    SELECT run, tag.key, tag.value FROM unnest(keys, vals) AS tag (key, value)
    ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value;
END
$$;
