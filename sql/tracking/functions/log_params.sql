--! requires: mlflow
-- Add the params that do not exist yet. A param that exists with another value is an error whose
-- detail lists [key, old value, new value].
CREATE OR REPLACE FUNCTION mlops.log_params(run text, in_workspace text, keys text[], vals text[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    added bigint;
    changed json;
BEGIN
    PERFORM mlops.open_run(run, in_workspace);
    INSERT INTO "@mlflow".params (run_uuid, key, value)
    SELECT run, param.key, param.value FROM unnest(keys, vals) AS param (key, value)
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS added = ROW_COUNT;
    IF added = cardinality(keys) THEN
        RETURN;
    END IF;
    SELECT json_agg(json_build_array(params.key, params.value, given.value) ORDER BY given.position)
    INTO changed
    FROM unnest(keys, vals) WITH ORDINALITY AS given (key, value, position)
    JOIN "@mlflow".params ON params.run_uuid = run AND params.key = given.key
    WHERE params.value <> given.value;
    IF changed IS NOT NULL THEN
        RAISE EXCEPTION 'Changing param values is not allowed: run %', run
            USING ERRCODE = 'ML409', DETAIL = changed::text;
    END IF;
END
$$;
