--! requires: mlflow metrics_rebuild
-- Where extremes are also metrics of MLflow: "loss/min" and "loss/max" in latest_metrics, so that MLflow's UI and
-- search sort by them. Older clients go on: the trigger on metrics writes them.
CREATE TABLE mlops.extremes_setting (
    -- -1: every experiment without a row of its own.
    experiment_id integer PRIMARY KEY,
    is_on boolean NOT NULL
);

-- Which rows of latest_metrics were generated: all others are the user's, and are left alone.
CREATE TABLE mlops.generated_metrics (
    run_uuid text NOT NULL,
    key text NOT NULL,
    PRIMARY KEY (run_uuid, key)
);

-- The trigger runs as the login that writes points: those who write its other tables write these, too.
DO $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        SELECT format(
            'GRANT %s ON mlops.extremes_setting, mlops.generated_metrics TO %s',
            acl.privilege_type, coalesce(quote_ident(pg_roles.rolname), 'PUBLIC')
        )
        FROM pg_class
        CROSS JOIN aclexplode(pg_class.relacl) AS acl
        LEFT JOIN pg_roles ON pg_roles.oid = acl.grantee
        WHERE pg_class.oid = 'mlops.run_ranges'::regclass
            AND acl.grantee <> pg_class.relowner
            AND acl.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE statement;
    END LOOP;
END
$$;
