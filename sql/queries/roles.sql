-- The four group roles. They belong to the server; what they may do is granted in each database.

-- name: is_set_up
-- Do the roles have rights in this database?
SELECT to_regclass('mlops.role_setup') IS NOT NULL;

-- name: missing
-- Which of the roles does the server not have?
SELECT format('CREATE ROLE %%I NOLOGIN', name)
FROM unnest(%(roles)s::text[]) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name);

-- name: job_owner
-- TimescaleDB runs the policies of a hypertable as its owner, who must be a login: one that no person
-- can use, because the limit counts no background processes. Only the Community edition has policies.
SELECT 'ALTER ROLE mlops_admin LOGIN CONNECTION LIMIT 0'
WHERE EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
    AND current_setting('timescaledb.license', true) = 'timescale'
    AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mlops_admin' AND rolcanlogin);

-- name: memberships
-- Which memberships among the roles are missing? A writer and an operator read too, and an admin gives
-- the other roles to people.
SELECT format('GRANT %%I TO %%I%%s', role, member, CASE WHEN admin THEN ' WITH ADMIN OPTION' ELSE '' END)
FROM (VALUES
    ('mlops_reader', 'mlops_writer', false),
    ('mlops_reader', 'mlops_operator', false),
    ('mlops_reader', 'mlops_admin', true),
    ('mlops_writer', 'mlops_admin', true),
    ('mlops_operator', 'mlops_admin', true)
) AS wanted (role, member, admin)
WHERE NOT EXISTS (
    SELECT FROM pg_auth_members AS m
    WHERE m.roleid = (SELECT oid FROM pg_roles WHERE rolname = wanted.role)
        AND m.member = (SELECT oid FROM pg_roles WHERE rolname = wanted.member)
        AND (m.admin_option OR NOT wanted.admin));

-- name: new_admins
-- Who owns tables now, or creates the roles, without being a superuser? They become admins: they would
-- lose what they can do as owners. (From PostgreSQL 16 on, a role's creator may give it away, and not
-- use it.)
SELECT format('GRANT mlops_admin TO %%I', login.rolname)
FROM pg_roles AS login
WHERE NOT login.rolsuper AND login.rolname <> 'mlops_admin'
    AND (
        login.rolname = current_user AND login.rolcreaterole
        OR login.oid IN (
            SELECT relowner FROM pg_class WHERE pg_class.oid = to_regclass('runs')
            UNION ALL
            SELECT nspowner FROM pg_namespace WHERE nspname = 'mlops'))
    AND NOT EXISTS (
        SELECT FROM pg_roles AS admin
        WHERE admin.rolname = 'mlops_admin' AND pg_has_role(login.oid, admin.oid, 'USAGE'));

-- name: is_owner
-- May this login change the schema: does it own our part, if there is one, directly or as a member?
SELECT coalesce(
    (SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'mlops'), true);

-- name: remember
-- Remember who owned the tables, so that they can go back.
CREATE TABLE IF NOT EXISTS mlops.role_setup (
    is_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_only_row),
    owner_before name NOT NULL,
    set_up_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    set_up_by name NOT NULL DEFAULT session_user
);
INSERT INTO mlops.role_setup (owner_before)
SELECT rolname FROM pg_class JOIN pg_roles ON pg_roles.oid = relowner
WHERE pg_class.oid = coalesce(to_regclass('runs'), to_regclass('mlops.migrations'))
ON CONFLICT DO NOTHING;

-- name: forget
-- The roles have no rights here any more.
DROP TABLE IF EXISTS mlops.role_setup;

-- name: heir
-- Who gets the tables back: their owner of before, where we may give them away, else ourselves.
SELECT CASE
    WHEN (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR pg_has_role(owner_before, 'MEMBER')
    THEN owner_before ELSE current_user END::text
FROM mlops.role_setup
WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = owner_before)
UNION ALL
SELECT current_user::text
LIMIT 1;

-- name: give_back
-- Give everything that mlops_admin owns in this database to its heir, if it owns anything. Not ALTER ...
-- OWNER: the new owner of a hypertable would need rights on TimescaleDB's own schema, where its chunks are.
SELECT format('REASSIGN OWNED BY mlops_admin TO %%I', %(heir)s::text)
WHERE EXISTS (
    SELECT FROM pg_shdepend
    WHERE refclassid = 'pg_authid'::regclass AND deptype = 'o'
        AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND refobjid = (SELECT oid FROM pg_roles WHERE rolname = 'mlops_admin'));

-- name: owners
-- Which of our objects and of MLflow's tables does another role own than this one? Sequences, indexes
-- and chunks follow their tables.
SELECT format('ALTER %%s %%s OWNER TO %%I', kind, name, %(owner)s::text)
FROM (
    SELECT 1 AS place, 'SCHEMA' AS kind, quote_ident(nspname) AS name, nspowner AS owner
    FROM pg_namespace WHERE nspname = 'mlops'
    UNION ALL
    SELECT 2, CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END,
        oid::regclass::text, relowner
    FROM pg_class
    WHERE relkind IN ('r', 'p', 'v', 'm') AND (
        relnamespace = to_regnamespace('mlops')
        OR relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('runs'))
            AND relname = ANY (%(tables)s::text[]))
    UNION ALL
    SELECT 3, 'FUNCTION', oid::regprocedure::text, proowner
    FROM pg_proc WHERE pronamespace = to_regnamespace('mlops')
) AS object
WHERE owner IS DISTINCT FROM (SELECT oid FROM pg_roles WHERE rolname = %(owner)s)
    AND pg_has_role(owner, 'USAGE')  -- an admin cannot give what a superuser made
ORDER BY place, name;

-- name: mlflow_tables
-- Which tables of MLflow's schema are in the hands of the roles?
SELECT relname::text FROM pg_class
WHERE relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('runs'))
    AND relkind IN ('r', 'p')
    AND relowner = (SELECT oid FROM pg_roles WHERE rolname = 'mlops_admin');

-- name: grants
-- Which rights do the roles lack here, and which have they too many? Only rights on our objects, on
-- MLflow's tables, on the schemas and on the database count; `wanted` is false to take all of them.
WITH rule (role, privileges, names) AS (VALUES
    -- What MLflow's stores, the feature store and the drift monitor write.
    ('mlops_writer', 'INSERT UPDATE DELETE', 'run_ranges metric_marks drift_feature_prints'),
    ('mlops_writer', 'INSERT DELETE', 'generated_metrics'),
    -- The ledger and the in-database store are written by functions, from chunks of bytes.
    ('mlops_writer', 'INSERT', 'artifact_chunks'),
    ('mlops_writer', 'EXECUTE', 'hold_contents store_contents put_files remove_files release_contents'),
    ('mlops_writer', 'EXECUTE', 'record_artifacts end_artifacts set_artifact_type'),
    ('mlops_writer', 'INSERT(selection) UPDATE(finished_at)', 'artifact_audits'),
    ('mlops_writer', 'INSERT(artifact_id) INSERT(audit_id) INSERT(location) INSERT(purpose) '
        'INSERT(outcome) INSERT(found_checksum) INSERT(found_size) INSERT(mlflow_user)',
        'artifact_checks'),
    -- What live code served.
    ('mlops_writer', 'INSERT', 'served_feature_sets served_origins served_blocks requests'),
    ('mlops_writer', 'INSERT UPDATE DELETE', 'feature_writes'),
    ('mlops_writer', 'INSERT UPDATE', 'feature_series feature_views feature_universes'),
    ('mlops_writer', 'INSERT', 'feature_points feature_definitions feature_categories'),
    ('mlops_writer', 'INSERT UPDATE', 'drift_strategies drift_calendar_overrides drift_runs drift_alerts'),
    ('mlops_writer', 'INSERT UPDATE', 'drift_histograms'),
    -- The sessions of calendars, like corrections of them.
    ('mlops_writer', 'INSERT UPDATE', 'imported_sessions'),
    ('mlops_operator', 'INSERT UPDATE', 'imported_sessions'),
    -- A writer queues messages and notes what became of them; what was queued it does not change.
    ('mlops_writer', 'INSERT UPDATE(attempts) UPDATE(next_attempt_at) UPDATE(last_error) '
        'UPDATE(delivered_at)', 'drift_deliveries'),
    ('mlops_writer', 'INSERT DELETE', 'drift_stale'),
    ('mlops_writer', 'INSERT', 'drift_entities drift_signals drift_prediction_points drift_return_points'),
    ('mlops_writer', 'INSERT', 'drift_strategy_returns drift_values drift_references'),
    ('mlops_writer', 'INSERT', 'drift_reference_distributions'),
    -- What `sync` remembers of what it brought.
    ('mlops_writer', 'INSERT UPDATE', 'brought_runs brought_entities brought_artifacts'),
    -- What people decide about alerts, references and features that were late. A decision has sessions
    -- computed again, so an operator writes results too, and as a writer changes none.
    ('mlops_operator', 'INSERT UPDATE', 'drift_alerts drift_repairs drift_calendar_overrides'),
    ('mlops_operator', 'INSERT UPDATE', 'drift_strategies drift_runs drift_histograms'),
    ('mlops_operator', 'INSERT UPDATE DELETE', 'drift_feature_prints'),
    ('mlops_operator', 'INSERT DELETE', 'drift_stale drift_references drift_reference_distributions'),
    ('mlops_operator', 'INSERT', 'drift_silences drift_values drift_entities'),
    ('mlops_operator', 'INSERT(selection) UPDATE(finished_at)', 'artifact_audits'),
    ('mlops_operator', 'INSERT(artifact_id) INSERT(audit_id) INSERT(location) INSERT(purpose) '
        'INSERT(outcome) INSERT(found_checksum) INSERT(found_size) INSERT(mlflow_user)',
        'artifact_checks'),
    ('mlops_writer', 'USAGE', 'artifact_contents_content_id_seq')
), managed AS (
    SELECT oid, relname, relkind, relacl, relnamespace = to_regnamespace('mlops') AS ours
    FROM pg_class
    WHERE relkind IN ('r', 'p', 'v', 'm') AND pg_has_role(relowner, 'USAGE') AND (
        relnamespace = to_regnamespace('mlops')
        OR relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('runs'))
            AND relname = ANY (%(tables)s::text[]))
), relation AS (
    SELECT oid, relname, relacl, ours, 'TABLE' AS kind FROM managed
    UNION ALL
    SELECT sequence.oid, sequence.relname, sequence.relacl, managed.ours, 'SEQUENCE'
    FROM managed
    JOIN pg_depend AS owned
        ON owned.refobjid = managed.oid AND owned.refclassid = 'pg_class'::regclass
        AND owned.classid = 'pg_class'::regclass AND owned.deptype IN ('a', 'i')
    JOIN pg_class AS sequence ON sequence.oid = owned.objid AND sequence.relkind = 'S'
), space AS (
    SELECT oid, nspname, nspacl FROM pg_namespace
    WHERE pg_has_role(nspowner, 'USAGE') AND (
        nspname = 'mlops'
        OR oid = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('runs')))
), base AS (
    SELECT oid, datname, datacl FROM pg_database
    WHERE datname = current_database() AND pg_has_role(datdba, 'USAGE')
), wanted (kind, name, role, privilege) AS (
    SELECT kind, oid::regclass::text, 'mlops_reader', 'SELECT' FROM relation WHERE kind = 'TABLE'
    UNION
    SELECT kind, oid::regclass::text, 'mlops_writer', privilege
    FROM relation, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE']) AS privilege
    WHERE kind = 'TABLE' AND NOT ours AND relname <> 'alembic_version'
    UNION
    SELECT kind, oid::regclass::text, 'mlops_writer', 'USAGE'
    FROM relation WHERE kind = 'SEQUENCE' AND NOT ours
    UNION
    -- "UPDATE(finished_at)" is the right to one column, in the form of GRANT.
    SELECT kind, oid::regclass::text, rule.role, replace(privilege, '(', ' (')
    FROM rule
    CROSS JOIN string_to_table(rule.privileges, ' ') AS privilege
    CROSS JOIN string_to_table(rule.names, ' ') AS named (name)
    JOIN relation ON relation.relname = named.name AND ours
        AND (relation.kind = 'SEQUENCE') = (privilege = 'USAGE')
    UNION
    SELECT 'FUNCTION', oid::regprocedure::text, rule.role, 'EXECUTE'
    FROM rule
    CROSS JOIN string_to_table(rule.names, ' ') AS named (name)
    JOIN pg_proc ON proname = named.name AND pronamespace = to_regnamespace('mlops')
        AND pg_has_role(proowner, 'USAGE')
    WHERE rule.privileges = 'EXECUTE'
    UNION
    -- An operator moves aliases: a rollback is a decision of the day.
    SELECT kind, oid::regclass::text, 'mlops_operator', privilege
    FROM relation, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE']) AS privilege
    WHERE NOT ours AND relname = 'registered_model_aliases'
    UNION
    SELECT 'SCHEMA', quote_ident(nspname), role, privilege
    FROM space, (VALUES ('mlops_reader', 'USAGE'), ('mlops_admin', 'USAGE'), ('mlops_admin', 'CREATE'))
        AS needed (role, privilege)
    WHERE nspname <> 'mlops' OR role <> 'mlops_admin'
    UNION
    SELECT 'DATABASE', quote_ident(datname), role, privilege
    FROM base, (VALUES
        ('mlops_reader', 'CONNECT'), ('mlops_writer', 'TEMPORARY'), ('mlops_operator', 'TEMPORARY'),
        ('mlops_admin', 'CREATE'), ('mlops_admin', 'TEMPORARY')) AS needed (role, privilege)
), present (kind, name, role, privilege) AS (
    SELECT object.kind, object.name, role.rolname::text, acl.privilege_type || object.part
    FROM (
        SELECT kind, oid::regclass::text AS name, relacl AS acls, '' AS part FROM relation
        UNION ALL
        SELECT 'TABLE', attrelid::regclass::text, attacl, format(' (%%I)', attname)
        FROM pg_attribute JOIN relation ON relation.oid = attrelid WHERE attacl IS NOT NULL
        UNION ALL
        SELECT 'FUNCTION', oid::regprocedure::text, proacl, ''
        FROM pg_proc
        WHERE pronamespace = to_regnamespace('mlops') AND pg_has_role(proowner, 'USAGE')
        UNION ALL
        SELECT 'SCHEMA', quote_ident(nspname), nspacl, '' FROM space
        UNION ALL
        SELECT 'DATABASE', quote_ident(datname), datacl, '' FROM base
    ) AS object (kind, name, acls, part)
    CROSS JOIN aclexplode(object.acls) AS acl
    JOIN pg_roles AS role ON role.oid = acl.grantee AND role.rolname = ANY (%(roles)s::text[])
    -- As an owner mlops_admin has every right.
    WHERE role.rolname <> 'mlops_admin' OR object.kind = 'DATABASE'
        OR object.kind = 'SCHEMA' AND object.name <> 'mlops'
), change AS (
    SELECT 'REVOKE' AS verb, 'FROM' AS word, * FROM (
        SELECT * FROM present EXCEPT SELECT * FROM wanted WHERE %(wanted)s) AS excess
    UNION ALL
    SELECT 'GRANT', 'TO', * FROM (
        SELECT * FROM wanted WHERE %(wanted)s EXCEPT SELECT * FROM present) AS missing
), of_object AS (
    SELECT verb, word, kind, name, role, string_agg(privilege, ', ' ORDER BY privilege) AS privileges
    FROM change GROUP BY verb, word, kind, name, role
)
SELECT format(
    '%%s %%s ON %%s %%s %%s %%I',
    verb, privileges, kind, string_agg(name, ', ' ORDER BY name), word, role)
FROM of_object
GROUP BY verb, word, kind, role, privileges
ORDER BY verb DESC, array_position(ARRAY['DATABASE', 'SCHEMA', 'TABLE', 'SEQUENCE', 'FUNCTION'], kind),
    role, privileges;

-- name: earlier_writers
-- Which logins could write to the in-database store before its functions did, without being members?
-- They keep what they could do.
SELECT DISTINCT format('GRANT EXECUTE ON FUNCTION %%s TO %%I', pg_proc.oid::regprocedure, rolname)
FROM pg_class
CROSS JOIN aclexplode(relacl) AS acl
JOIN pg_roles ON pg_roles.oid = acl.grantee
CROSS JOIN pg_proc
WHERE pg_class.oid = to_regclass('mlops.artifact_files')
    AND acl.privilege_type = 'INSERT' AND acl.grantee <> relowner
    AND pronamespace = to_regnamespace('mlops') AND prosecdef
    AND prorettype <> 'pg_catalog.trigger'::regtype
    AND NOT has_function_privilege(rolname, pg_proc.oid, 'EXECUTE')
    AND pg_has_role(proowner, 'USAGE');

-- name: members
-- Which roles exist, and which logins have been granted each, directly or through another role?
SELECT role.rolname::text AS role, ARRAY(
    SELECT member.rolname::text FROM pg_roles AS member
    WHERE member.rolcanlogin AND NOT member.rolsuper AND member.rolname <> 'mlops_admin'
        AND pg_has_role(member.oid, role.oid, 'MEMBER')
    ORDER BY member.rolname) AS members
FROM pg_roles AS role
WHERE role.rolname = ANY (%(roles)s::text[])
ORDER BY array_position(%(roles)s::text[], role.rolname::text);
