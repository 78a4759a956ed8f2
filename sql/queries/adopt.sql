-- name: layout
-- Is `metrics` in our layout already, where is it, how large, and may it hold this many points?
SELECT
    EXISTS (
        SELECT FROM pg_constraint
        WHERE conrelid = 'metrics'::regclass
            AND conname = 'metric_pk'
            AND pg_get_constraintdef(oid) LIKE 'PRIMARY KEY (run_uuid,%'
    ) AS ours,
    (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'metrics'::regclass)
        AS schema,
    pg_total_relation_size('metrics') + coalesce((
        SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits
        WHERE inhparent = 'metrics'::regclass
    ), 0)::bigint AS bytes,
    (
        SELECT sum(greatest(reltuples, pg_stat_get_live_tuples(oid), 0)) FROM pg_class
        WHERE oid = 'metrics'::regclass
            OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'metrics'::regclass)
    )::bigint AS points,
    (SELECT count(*) FROM runs) AS runs;

-- name: estimated_points
-- About how many points does a table without statistics hold? The first pages are counted.
SELECT coalesce(round(
    (SELECT count(*) FROM metrics WHERE ctid < '(200,0)')
    * (
        SELECT sum(pg_relation_size(oid)) FROM pg_class
        WHERE oid = 'metrics'::regclass
            OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'metrics'::regclass)
    )
    / nullif((
        SELECT sum(least(
            pg_relation_size(oid), 200 * current_setting('block_size')::bigint
        )) FROM pg_class
        WHERE oid = 'metrics'::regclass
            OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'metrics'::regclass)
    ), 0)
), 0);

-- name: under_way
-- Did a rebuild begin that has not ended: to our layout, to MLflow's, not at all (NULL)? A table without
-- its key counts as not begun: all that makes it is one transaction.
SELECT pg_get_constraintdef(oid) LIKE 'PRIMARY KEY (run_uuid,%'
FROM pg_constraint
WHERE conrelid = to_regclass('mlops.metrics_next') AND conname = 'metric_pk';

-- name: knows_ranges
-- Does the list of runs hold what this version needs?
SELECT EXISTS (
    SELECT FROM pg_attribute
    WHERE attrelid = to_regclass('mlops.metrics_copied') AND attname = 'first_ms'
);

-- name: list_exists
-- Is there a list of runs, of a rebuild or of the marks that follow it?
SELECT to_regclass('mlops.metrics_copied') IS NOT NULL;

-- name: create_tables
-- The table that will take the place of `metrics`, the list of the runs copied to it, and the ranges of
-- time of what is written meanwhile (a row for each statement and run: writers never wait for a row).
CREATE TABLE mlops.metrics_next (
    LIKE metrics INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION
        INCLUDING STATISTICS INCLUDING COMMENTS
);
CREATE TABLE mlops.metrics_copied (
    run_uuid text PRIMARY KEY,
    points bigint NOT NULL,
    checksum numeric NOT NULL,
    first_ms bigint,
    last_ms bigint
);
CREATE TABLE mlops.metrics_since (
    run_uuid text NOT NULL,
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL
);

-- name: use_our_layout
-- The key of tracking/002_metrics_layout.
ALTER TABLE mlops.metrics_next ADD CONSTRAINT metric_pk
    PRIMARY KEY (run_uuid, key, step, "timestamp", value, is_nan);

-- name: make_hypertable
-- The chunks of tracking/003_metrics_hypertable.
SELECT create_hypertable(
    'mlops.metrics_next', by_range('timestamp', 2592000000), create_default_indexes => false
);

-- name: use_mlflow_layout
-- Key and indexes as MLflow's own migrations make them. The foreign key comes when the tables change
-- places: it would take a lock on `runs`.
ALTER TABLE mlops.metrics_next ADD CONSTRAINT metric_pk
    PRIMARY KEY (key, "timestamp", step, run_uuid, value, is_nan);
CREATE INDEX index_metrics_run_uuid ON mlops.metrics_next (run_uuid);
CREATE INDEX index_metrics_run_uuid_key_step ON mlops.metrics_next (run_uuid, key, step);

-- name: add_foreign_key
-- MLflow's foreign key, without a look at the rows: every one was copied from a table that had it.
ALTER TABLE metrics ADD CONSTRAINT metrics_run_uuid_fkey
    FOREIGN KEY (run_uuid) REFERENCES runs NOT VALID;

-- name: validate_foreign_key
-- The look at the rows, while others read and write.
ALTER TABLE metrics VALIDATE CONSTRAINT metrics_run_uuid_fkey;

-- name: foreign_key_is_unchecked
-- Was a release interrupted before its last step?
SELECT EXISTS (
    SELECT FROM pg_constraint
    WHERE conrelid = 'metrics'::regclass AND conname = 'metrics_run_uuid_fkey' AND NOT convalidated
);

-- name: write_to_both
-- From now on what is written to `metrics` is written to the next table, too. Its writers need no rights
-- on the schema of ours: the functions run with those of their owner, and so name every object in full.
CREATE OR REPLACE FUNCTION mlops.copy_to_next() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO mlops.metrics_next (key, value, "timestamp", run_uuid, step, is_nan)
    SELECT key, value, "timestamp", run_uuid, step, is_nan FROM changed
    ON CONFLICT DO NOTHING;
    INSERT INTO mlops.metrics_since (run_uuid, first_ms, last_ms)
    SELECT run_uuid, min("timestamp"), max("timestamp") FROM changed GROUP BY run_uuid;
    RETURN NULL;
END
$$;
CREATE OR REPLACE FUNCTION mlops.change_next() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM mlops.metrics_next
    WHERE (run_uuid, key, step, "timestamp", value, is_nan)
        = (OLD.run_uuid, OLD.key, OLD.step, OLD."timestamp", OLD.value, OLD.is_nan);
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO mlops.metrics_next (key, value, "timestamp", run_uuid, step, is_nan)
        VALUES (NEW.key, NEW.value, NEW."timestamp", NEW.run_uuid, NEW.step, NEW.is_nan)
        ON CONFLICT DO NOTHING;
        INSERT INTO mlops.metrics_since (run_uuid, first_ms, last_ms)
        VALUES (NEW.run_uuid, NEW."timestamp", NEW."timestamp");
    END IF;
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER mlops_copy_to_next AFTER INSERT ON metrics
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION mlops.copy_to_next();
CREATE OR REPLACE TRIGGER mlops_change_next AFTER UPDATE OR DELETE ON metrics
    -- A hypertable knows no DELETE triggers with transition tables.
    FOR EACH ROW EXECUTE FUNCTION mlops.change_next();

-- name: writes_to_both
-- Are the triggers in place?
SELECT EXISTS (
    SELECT FROM pg_trigger WHERE tgrelid = 'metrics'::regclass AND tgname = 'mlops_change_next'
);

-- name: runs_to_copy
-- Which runs come next?
SELECT run_uuid FROM runs
WHERE NOT EXISTS (SELECT FROM mlops.metrics_copied WHERE metrics_copied.run_uuid = runs.run_uuid)
ORDER BY run_uuid
LIMIT %(limit)s;

-- name: copy_runs
-- Copy the points of some runs, in the order of the new key.
INSERT INTO mlops.metrics_next (key, value, "timestamp", run_uuid, step, is_nan)
SELECT key, value, "timestamp", run_uuid, step, is_nan
FROM metrics
WHERE run_uuid = ANY(%(run_ids)s)
ORDER BY run_uuid, key, step
ON CONFLICT DO NOTHING;

-- name: summarise_runs
-- How many points does each run have in a table, and what is the sum of their hashes?
SELECT
    run_uuid::text, count(*),
    sum(hash_record_extended(ROW(key::text, value, "timestamp", step, is_nan), 0))
FROM {table}
WHERE run_uuid = ANY(%(run_ids)s)
GROUP BY run_uuid;

-- name: remember_runs
-- These runs are copied and compared. A run without points is a row, too: 0 points, and no range.
INSERT INTO mlops.metrics_copied (run_uuid, points, checksum, first_ms, last_ms)
SELECT
    run_id, count(copied.run_uuid),
    coalesce(
        sum(hash_record_extended(
            ROW(copied.key::text, copied.value, copied."timestamp", copied.step, copied.is_nan), 0
        )),
        0
    ),
    min(copied."timestamp"), max(copied."timestamp")
FROM unnest(%(run_ids)s::text[]) AS run_id
LEFT JOIN mlops.metrics_next AS copied ON copied.run_uuid = run_id
GROUP BY run_id
ON CONFLICT (run_uuid) DO NOTHING;

-- name: copied
-- How many runs are copied?
SELECT count(*) FROM mlops.metrics_copied;

-- name: stop_runs
-- No run is started, changed or deleted while the tables change places. Reads of runs go on: a call of MLflow's
-- store reads them on a second connection while its first one holds a lock on them, so that a lock which keeps
-- readers out waits for a call that waits for the lock.
LOCK TABLE runs IN SHARE ROW EXCLUSIVE MODE;

-- name: lock_tables
-- Stop readers and writers of points.
LOCK TABLE metrics, mlops.metrics_next IN ACCESS EXCLUSIVE MODE;

-- name: lock_metrics
-- Before triggers come or go.
LOCK TABLE metrics IN SHARE ROW EXCLUSIVE MODE;

-- name: drop_triggers
-- From now on what is written to `metrics` is written to it alone.
DROP TRIGGER IF EXISTS mlops_copy_to_next ON metrics;
DROP TRIGGER IF EXISTS mlops_change_next ON metrics;
DROP TRIGGER IF EXISTS mlops_delete_from_next ON metrics;
DROP FUNCTION IF EXISTS mlops.copy_to_next();
DROP FUNCTION IF EXISTS mlops.change_next();
DROP FUNCTION IF EXISTS mlops.delete_from_next();

-- name: drop_orphans
-- Points of runs that were deleted while they were copied.
DELETE FROM mlops.metrics_next
WHERE run_uuid IN (
    SELECT run_uuid FROM mlops.metrics_copied
    UNION
    SELECT run_uuid FROM mlops.metrics_since
    EXCEPT
    SELECT run_uuid FROM runs
);

-- name: exchange
-- The next table takes the place of `metrics`, which waits in a schema of its own until nothing refers to
-- it: names of keys and indexes are the same on both.
CREATE SCHEMA IF NOT EXISTS mlops_before;
ALTER TABLE {schema}.metrics SET SCHEMA mlops_before;
ALTER TABLE mlops.metrics_next SET SCHEMA {schema};
ALTER TABLE {schema}.metrics_next RENAME TO metrics;

-- name: readers_of_previous
-- What still refers to the table before?
SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend
WHERE classid IN ('pg_rewrite'::regclass, 'pg_proc'::regclass)
    AND refclassid = 'pg_class'::regclass
    AND refobjid = 'mlops_before.metrics'::regclass;

-- name: previous_has_foreign_keys
-- Does the table before refer to others? To drop it then needs a lock on those that keeps readers out.
SELECT EXISTS (
    SELECT FROM pg_constraint WHERE conrelid = 'mlops_before.metrics'::regclass AND contype = 'f'
);

-- name: empty_previous
-- Without rows its foreign keys hold up no deletion of a run.
TRUNCATE mlops_before.metrics;

-- name: previous_exists
-- Is the table before still there?
SELECT to_regclass('mlops_before.metrics') IS NOT NULL;

-- name: drop_previous
-- Nothing refers to the table before.
DROP TABLE mlops_before.metrics;
DROP SCHEMA mlops_before;

-- name: rests_of_tracking
-- Is something of a released database's tracking still there?
SELECT EXISTS (SELECT FROM mlops.definitions WHERE area = 'tracking');

-- name: end_kept_tags
-- Without triggers no history of tags is kept: its periods end here, and begin again when the database is
-- adopted again, until then in the infinite.
WITH ended AS (
    UPDATE mlops.kept_tags
    SET kept_to = greatest(clock_timestamp(), kept_from + interval '1 microsecond')
    WHERE kept_to IS NULL
    RETURNING key
)
INSERT INTO mlops.kept_tags (key, kept_from) SELECT key, 'infinity' FROM ended;

-- name: begin_kept_tags
-- The history of tags is kept again from now on.
UPDATE mlops.kept_tags SET kept_from = clock_timestamp() WHERE kept_from = 'infinity';

-- name: triggers_on_runs
-- Which triggers of ours are on `runs`?
SELECT tgname FROM pg_trigger WHERE tgrelid = 'runs'::regclass AND tgname LIKE 'mlops\_%';

-- name: objects_on_runs
-- The same triggers and their functions, as the list of definitions names them.
SELECT format('TRIGGER %I ON %I.%I', tgname, nspname, relname)
FROM pg_trigger
JOIN pg_class ON pg_class.oid = tgrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE tgrelid = 'runs'::regclass AND tgname LIKE 'mlops\_%'
UNION
SELECT format('FUNCTION mlops.%I()', proname)
FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
WHERE tgrelid = 'runs'::regclass AND tgname LIKE 'mlops\_%';

-- name: disable_trigger
-- To drop a trigger needs a lock that keeps readers of `runs` out.
ALTER TABLE runs DISABLE TRIGGER {trigger};

-- name: fill_ranges
-- The range of time of each run, rounded outwards as the trigger on metrics does.
INSERT INTO mlops.run_ranges (run_uuid, first_ms, last_ms)
SELECT run_uuid, min(first_ms) & -134217728, max(last_ms) | 134217727
FROM (
    SELECT run_uuid, first_ms, last_ms FROM mlops.metrics_copied WHERE first_ms IS NOT NULL
    UNION ALL
    SELECT run_uuid, first_ms, last_ms FROM mlops.metrics_since
) AS range
JOIN runs USING (run_uuid)
GROUP BY run_uuid;

-- name: forget_short_runs
-- A mark is every 128th point: shorter runs need none.
DELETE FROM mlops.metrics_copied WHERE points < 128;

-- name: runs_to_mark
-- Which runs come next?
SELECT run_uuid FROM mlops.metrics_copied ORDER BY run_uuid LIMIT %(limit)s;

-- name: lock_runs
-- The row of its range is the lock of each run's writers: it is taken before anything is read.
SELECT FROM mlops.run_ranges WHERE run_uuid = ANY(%(run_ids)s) ORDER BY run_uuid FOR UPDATE;

-- name: mark_runs
-- Mark some runs.
SELECT mlops.mark_run(run_uuid::text) FROM mlops.run_ranges WHERE run_uuid = ANY(%(run_ids)s);

-- name: forget_marked
-- These runs are marked.
DELETE FROM mlops.metrics_copied WHERE run_uuid = ANY(%(run_ids)s);

-- name: drop_since
-- The tables have changed places.
DROP TABLE mlops.metrics_since;

-- name: drop_list
-- No run is left to be copied or marked.
DROP TABLE IF EXISTS mlops.metrics_copied;

-- name: drop_next
-- Give up a rebuild.
DROP TABLE IF EXISTS mlops.metrics_next;
DROP TABLE IF EXISTS mlops.metrics_copied;
DROP TABLE IF EXISTS mlops.metrics_since;

-- name: generates_metrics
-- Has this schema metrics that were generated from others?
SELECT to_regclass('mlops.generated_metrics') IS NOT NULL;

-- name: remove_generated
-- Plain MLflow would keep values that no write changes any more.
DELETE FROM latest_metrics USING mlops.generated_metrics AS generated
WHERE latest_metrics.run_uuid = generated.run_uuid AND latest_metrics.key = generated.key;

-- name: drop_tables_of_tracking
-- Remove the tables that the migrations of tracking added; the definitions are gone.
DROP TABLE IF EXISTS mlops.metric_marks;
DROP TABLE IF EXISTS mlops.extremes_setting;
DROP TABLE IF EXISTS mlops.generated_metrics;
DROP TABLE IF EXISTS mlops.run_ranges;

-- name: drop_runs_by_start
-- Remove an index that the migrations of tracking added; readers of `runs` go on meanwhile.
DROP INDEX CONCURRENTLY IF EXISTS {schema}.mlops_runs_by_start;

-- name: drop_version_tags
-- The same, on tags of model versions.
DROP INDEX CONCURRENTLY IF EXISTS {schema}.mlops_version_tags;

-- name: analyze
-- New tables have no statistics.
ANALYZE metrics;

-- name: one_snapshot
-- All statements of this transaction see one state of the database.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;

-- name: search_path
-- In which schemas are names without one looked up?
SELECT current_setting('search_path');

-- name: set_search_path
-- Look names up in other schemas, until this transaction ends.
SELECT set_config('search_path', %(path)s, true);

-- name: carried
-- What was added to `metrics` beside MLflow's own: its kind and name, and the statement that gives it to
-- the table that takes its place, either to the next table while it is empty or to `metrics` afterwards.
WITH target AS (
    SELECT pg_class.*, %(table)s::text AS name
    FROM pg_class WHERE oid = %(table)s::regclass
),
dependents AS (
    SELECT DISTINCT ev_class AS oid
    FROM pg_depend
    JOIN pg_rewrite ON pg_rewrite.oid = objid
    WHERE classid = 'pg_rewrite'::regclass
        AND refclassid = 'pg_class'::regclass
        AND refobjid = %(table)s::regclass
        AND ev_class <> %(table)s::regclass
)
SELECT 'next' AS stage, 1 AS place, 'storage options' AS kind, array_to_string(reloptions, ', ') AS name,
    format('ALTER TABLE mlops.metrics_next SET (%%s)', array_to_string(reloptions, ', ')) AS statement
FROM target WHERE reloptions IS NOT NULL
UNION ALL
SELECT 'next', 2, 'tablespace', spcname,
    format('ALTER TABLE mlops.metrics_next SET TABLESPACE %%I', spcname)
FROM target JOIN pg_tablespace ON pg_tablespace.oid = reltablespace
UNION ALL
SELECT 'next', 3, 'statistics target', attname,
    format('ALTER TABLE mlops.metrics_next ALTER COLUMN %%I SET STATISTICS %%s', attname, attstattarget)
FROM target JOIN pg_attribute ON attrelid = target.oid
WHERE attnum > 0 AND NOT attisdropped AND attstattarget >= 0
UNION ALL
SELECT 'next', 3, 'column options', attname,
    format(
        'ALTER TABLE mlops.metrics_next ALTER COLUMN %%I SET (%%s)',
        attname, array_to_string(attoptions, ', ')
    )
FROM target JOIN pg_attribute ON attrelid = target.oid
WHERE attnum > 0 AND NOT attisdropped AND attoptions IS NOT NULL
UNION ALL
SELECT 'next', 4, 'index', index.relname,
    replace(
        pg_get_indexdef(index.oid),
        format(' ON %%s USING ', target.name), ' ON mlops.metrics_next USING '
    )
FROM target
JOIN pg_index ON indrelid = target.oid
JOIN pg_class AS index ON index.oid = indexrelid
WHERE indisvalid
    AND index.relname NOT IN ('index_metrics_run_uuid', 'index_metrics_run_uuid_key_step')
    AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
UNION ALL
SELECT 'next', 5, 'comment', index.relname,
    format('COMMENT ON INDEX mlops.%%I IS %%L', index.relname, description)
FROM target
JOIN pg_index ON indrelid = target.oid
JOIN pg_class AS index ON index.oid = indexrelid
JOIN pg_description ON objoid = index.oid AND classoid = 'pg_class'::regclass
WHERE indisvalid
    AND index.relname NOT IN ('index_metrics_run_uuid', 'index_metrics_run_uuid_key_step')
    AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
UNION ALL
SELECT 'next', 6, 'constraint', conname,
    format('ALTER TABLE mlops.metrics_next ADD CONSTRAINT %%I %%s', conname, pg_get_constraintdef(con.oid))
FROM target JOIN pg_constraint AS con ON conrelid = target.oid
WHERE contype IN ('f', 'u', 'x') AND (contype <> 'f' OR confrelid <> %(runs)s::regclass)
UNION ALL
SELECT 'after', 1, 'comment', target.name,
    format('COMMENT ON TABLE %%s IS %%L', target.name, obj_description(target.oid, 'pg_class'))
FROM target WHERE obj_description(target.oid, 'pg_class') IS NOT NULL
UNION ALL
SELECT 'after', 2, 'grant', format('%%s to %%s', privilege_type, coalesce(rolname, 'PUBLIC')),
    format(
        'GRANT %%s ON %%s TO %%s%%s', privilege_type, target.name,
        coalesce(quote_ident(rolname), 'PUBLIC'),
        CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
    )
FROM target CROSS JOIN aclexplode(relacl) AS acl LEFT JOIN pg_roles ON pg_roles.oid = acl.grantee
WHERE acl.grantee <> relowner
UNION ALL
SELECT 'after', 2, 'grant', format('%%s (%%s) to %%s', privilege_type, attname, coalesce(rolname, 'PUBLIC')),
    format(
        'GRANT %%s (%%I) ON %%s TO %%s%%s', privilege_type, attname, target.name,
        coalesce(quote_ident(rolname), 'PUBLIC'),
        CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
    )
FROM target
JOIN pg_attribute ON attrelid = target.oid
CROSS JOIN aclexplode(attacl) AS acl
LEFT JOIN pg_roles ON pg_roles.oid = acl.grantee
WHERE acl.grantee <> relowner
UNION ALL
SELECT 'after', 3, 'owner', rolname, format('ALTER TABLE %%s OWNER TO %%I', target.name, rolname)
FROM target JOIN pg_roles ON pg_roles.oid = relowner
WHERE rolname <> current_user
UNION ALL
SELECT 'after', 4, 'trigger', tgname, pg_get_triggerdef(pg_trigger.oid)
FROM target JOIN pg_trigger ON tgrelid = target.oid
WHERE NOT tgisinternal AND tgname !~ '^(mlops|ts)_'
UNION ALL
SELECT 'after', 5, 'disabled trigger', tgname,
    format('ALTER TABLE %%s DISABLE TRIGGER %%I', target.name, tgname)
FROM target JOIN pg_trigger ON tgrelid = target.oid
WHERE NOT tgisinternal AND tgname !~ '^(mlops|ts)_' AND tgenabled = 'D'
UNION ALL
SELECT 'after', 6, 'view', dependents.oid::regclass::text,
    format(
        'CREATE OR REPLACE VIEW %%s%%s AS %%s', dependents.oid::regclass,
        ' WITH (' || array_to_string(pg_class.reloptions, ', ') || ')',
        pg_get_viewdef(dependents.oid)
    )
FROM dependents JOIN pg_class USING (oid)
WHERE relkind = 'v'
UNION ALL
SELECT 'after', 8, 'row security', CASE WHEN relforcerowsecurity THEN 'of its owner, too' ELSE 'of others' END,
    format(
        'ALTER TABLE %%1$s ENABLE ROW LEVEL SECURITY, %%2$s FORCE ROW LEVEL SECURITY',
        target.name, CASE WHEN relforcerowsecurity THEN '' ELSE 'NO' END
    )
FROM target WHERE relrowsecurity
UNION ALL
SELECT 'after', 8, 'policy', polname,
    format(
        'CREATE POLICY %%I ON %%s AS %%s FOR %%s TO %%s%%s%%s', polname, target.name,
        CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
        CASE polcmd
            WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
            ELSE 'ALL'
        END,
        (
            SELECT string_agg(coalesce(quote_ident(rolname), 'PUBLIC'), ', ')
            FROM unnest(polroles) AS role LEFT JOIN pg_roles ON pg_roles.oid = role
        ),
        ' USING (' || pg_get_expr(polqual, polrelid) || ')',
        ' WITH CHECK (' || pg_get_expr(polwithcheck, polrelid) || ')'
    )
FROM target JOIN pg_policy ON polrelid = target.oid
UNION ALL
SELECT 'after', 9, 'replica identity',
    CASE target.relreplident WHEN 'f' THEN 'full' WHEN 'n' THEN 'nothing' ELSE index.relname END,
    format(
        'ALTER TABLE %%s REPLICA IDENTITY %%s', target.name,
        CASE target.relreplident
            WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING' ELSE format('USING INDEX %%I', index.relname)
        END
    )
FROM target
LEFT JOIN (pg_index JOIN pg_class AS index ON index.oid = indexrelid) ON indrelid = target.oid AND indisreplident
WHERE target.relreplident <> 'd'
UNION ALL
SELECT 'after', 10, 'publication', pubname,
    format(
        'ALTER PUBLICATION %%I ADD TABLE %%s%%s%%s', pubname, target.name,
        (
            SELECT ' (' || string_agg(quote_ident(attname), ', ' ORDER BY attnum) || ')'
            FROM pg_attribute WHERE attrelid = target.oid AND attnum = ANY(prattrs::smallint[])
        ),
        ' WHERE (' || pg_get_expr(prqual, prrelid) || ')'
    )
FROM target
JOIN pg_publication_rel ON prrelid = target.oid
JOIN pg_publication ON pg_publication.oid = prpubid
UNION ALL
-- Its rows come when the tables have changed places: a query under the lock would hold up all others.
SELECT 'after', 11, 'materialized view', view.oid::regclass::text,
    format(
        'DROP MATERIALIZED VIEW %%1$s; CREATE MATERIALIZED VIEW %%1$s%%2$s AS %%3$s WITH NO DATA;',
        view.oid::regclass,
        ' WITH (' || array_to_string(view.reloptions, ', ') || ')',
        rtrim(pg_get_viewdef(view.oid), ';')
    )
    || coalesce((
        SELECT string_agg(pg_get_indexdef(indexrelid) || ';', '' ORDER BY indexrelid)
        FROM pg_index WHERE indrelid = view.oid
    ), '')
    || coalesce((
        SELECT string_agg(
            CASE objsubid
                WHEN 0 THEN format('COMMENT ON MATERIALIZED VIEW %%s IS %%L;', view.oid::regclass, description)
                ELSE format(
                    'COMMENT ON COLUMN %%s.%%I IS %%L;', view.oid::regclass,
                    (SELECT attname FROM pg_attribute WHERE attrelid = view.oid AND attnum = objsubid), description
                )
            END, ''
        )
        FROM pg_description WHERE objoid = view.oid AND classoid = 'pg_class'::regclass
    ), '')
    || coalesce((
        SELECT string_agg(
            format(
                'GRANT %%s ON %%s TO %%s%%s;', privilege_type, view.oid::regclass,
                coalesce(quote_ident(rolname), 'PUBLIC'),
                CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
            ), ''
        )
        FROM aclexplode(view.relacl) AS acl LEFT JOIN pg_roles ON pg_roles.oid = acl.grantee
        WHERE acl.grantee <> view.relowner
    ), '')
    || (
        SELECT format('ALTER MATERIALIZED VIEW %%s OWNER TO %%I;', view.oid::regclass, rolname)
        FROM pg_roles WHERE oid = view.relowner
    )
FROM dependents JOIN pg_class AS view USING (oid)
WHERE relkind = 'm'
UNION ALL
SELECT DISTINCT 'after', 7, 'function', objid::regprocedure::text, pg_get_functiondef(objid)
FROM pg_depend
WHERE classid = 'pg_proc'::regclass
    AND refclassid = 'pg_class'::regclass
    AND refobjid = %(table)s::regclass
ORDER BY stage DESC, place, name;

-- name: without_rows
-- Which materialized views that read `metrics` have no rows yet?
SELECT DISTINCT ev_class::regclass::text
FROM pg_depend
JOIN pg_rewrite ON pg_rewrite.oid = objid
JOIN pg_class ON pg_class.oid = ev_class
WHERE classid = 'pg_rewrite'::regclass
    AND refclassid = 'pg_class'::regclass
    AND refobjid = 'metrics'::regclass
    AND relkind = 'm'
    AND NOT relispopulated;

-- name: refresh
-- Compute the rows of a materialized view.
REFRESH MATERIALIZED VIEW {view};

-- name: default_grants
-- What default privileges gave on the next table, and the old one may not have had: take it back.
SELECT DISTINCT format(
    'REVOKE ALL ON mlops.metrics_next FROM %s', coalesce(quote_ident(rolname), 'PUBLIC')
)
FROM pg_class
CROSS JOIN aclexplode(relacl) AS acl
LEFT JOIN pg_roles ON pg_roles.oid = acl.grantee
WHERE pg_class.oid = 'mlops.metrics_next'::regclass AND acl.grantee <> relowner;

-- name: obstacles
-- What cannot be given to the table that takes the place of `metrics`, and what to do about each.
WITH target AS (
    SELECT pg_class.*, %(table)s::text AS name
    FROM pg_class WHERE oid = %(table)s::regclass
)
SELECT format('its owner %%s: this user is not a member of that role (a superuser is)', rolname) AS obstacle
FROM target JOIN pg_roles ON pg_roles.oid = relowner
WHERE NOT pg_has_role(relowner, 'MEMBER')
UNION ALL
SELECT format('column %%I, which is not of MLflow: drop it, or move it to a table of its own', attname)
FROM target JOIN pg_attribute ON attrelid = target.oid
WHERE attnum > 0
    AND NOT attisdropped
    AND attname NOT IN ('key', 'value', 'timestamp', 'run_uuid', 'step', 'is_nan')
UNION ALL
SELECT DISTINCT format(
    '%%s, which reads materialized view %%s: drop it, and create it again afterwards',
    coalesce(
        (
            SELECT pg_describe_object('pg_class'::regclass, rule.ev_class, 0) FROM pg_rewrite AS rule
            WHERE depend.classid = 'pg_rewrite'::regclass AND rule.oid = depend.objid
        ),
        pg_describe_object(depend.classid, depend.objid, depend.objsubid)
    ),
    view.oid::regclass
)
FROM pg_depend AS read
JOIN pg_rewrite ON pg_rewrite.oid = read.objid
JOIN pg_class AS view ON view.oid = ev_class
JOIN pg_depend AS depend
    ON depend.refclassid = 'pg_class'::regclass
    AND depend.refobjid = view.oid
    AND depend.deptype = 'n'
    AND (depend.classid, depend.objid) <> ('pg_rewrite'::regclass, pg_rewrite.oid)
WHERE read.classid = 'pg_rewrite'::regclass
    AND read.refclassid = 'pg_class'::regclass
    AND read.refobjid = %(table)s::regclass
    AND view.relkind = 'm'
UNION ALL
SELECT DISTINCT 'a continuous aggregate: drop it, and create it again afterwards'
FROM pg_depend
JOIN pg_rewrite ON pg_rewrite.oid = objid
JOIN pg_class ON pg_class.oid = ev_class
WHERE classid = 'pg_rewrite'::regclass
    AND refclassid = 'pg_class'::regclass
    AND refobjid = %(table)s::regclass
    AND relnamespace::regnamespace::text = '_timescaledb_internal'
UNION ALL
SELECT DISTINCT format('view %%s of another owner (%%s): this user may not replace it', pg_class.oid::regclass, rolname)
FROM pg_depend
JOIN pg_rewrite ON pg_rewrite.oid = objid
JOIN pg_class ON pg_class.oid = ev_class
JOIN pg_roles ON pg_roles.oid = relowner
WHERE classid = 'pg_rewrite'::regclass
    AND refclassid = 'pg_class'::regclass
    AND refobjid = %(table)s::regclass
    AND relkind IN ('v', 'm')
    AND NOT pg_has_role(relowner, 'MEMBER')
UNION ALL
SELECT format('unique index %%I without the column timestamp, which chunks need: drop it', index.relname)
FROM target
JOIN pg_index ON indrelid = target.oid
JOIN pg_class AS index ON index.oid = indexrelid
WHERE %(hypertable)s
    AND (indisunique OR indisexclusion)
    AND NOT indisprimary
    AND NOT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = target.oid AND attname = 'timestamp' AND attnum = ANY(indkey::smallint[])
    )
UNION ALL
SELECT format('constraint %%I of table %%s, which refers to metrics: drop it', conname, conrelid::regclass)
FROM pg_constraint WHERE contype = 'f' AND confrelid = %(table)s::regclass
UNION ALL
SELECT format('%%s, which has the type of the table''s rows: drop it', pg_describe_object(classid, objid, objsubid))
FROM target
JOIN pg_type ON pg_type.oid = target.reltype
JOIN pg_depend ON refclassid = 'pg_type'::regclass AND refobjid IN (pg_type.oid, pg_type.typarray)
WHERE deptype = 'n'
UNION ALL
SELECT format('rule %%I: drop it', rulename) FROM pg_rewrite WHERE ev_class = %(table)s::regclass
UNION ALL
SELECT 'row security: it hides points from this role; run this as the owner of metrics, or a superuser'
FROM target WHERE row_security_active(target.oid)
UNION ALL
-- The edition is known once the extension exists: until then it may be the one that compresses.
SELECT 'row security, which compressed chunks do not have: drop its policies'
    || CASE
        WHEN current_setting('timescaledb.license', true) IS NULL
            THEN ', or create the extension timescaledb first if this is its Apache edition'
        ELSE ''
    END
FROM target
WHERE %(hypertable)s
    AND relrowsecurity
    AND coalesce(current_setting('timescaledb.license', true), 'timescale') = 'timescale'
UNION ALL
SELECT format('trigger %%I with transition tables, which chunks do not have: drop it', tgname)
FROM target JOIN pg_trigger ON tgrelid = target.oid
WHERE %(hypertable)s
    AND NOT tgisinternal
    AND tgname !~ '^(mlops|ts)_'
    AND (tgoldtable IS NOT NULL OR (tgnewtable IS NOT NULL AND tgtype & 1 = 1))
UNION ALL
SELECT format(
    'publication %%I: %%s', pubname,
    CASE
        WHEN %(hypertable)s THEN 'it would not publish the chunks of a hypertable: take metrics out of it'
        ELSE 'this user does not own it'
    END
)
FROM pg_publication_rel
JOIN pg_publication ON pg_publication.oid = prpubid
WHERE prrelid = %(table)s::regclass AND (%(hypertable)s OR NOT pg_has_role(pubowner, 'MEMBER'))
UNION ALL
SELECT 'its partitions: MLflow''s table has none'
FROM target
WHERE relkind = 'p' OR EXISTS (
    SELECT FROM pg_inherits
    JOIN pg_class AS child ON child.oid = inhrelid
    WHERE inhparent = target.oid AND child.relnamespace::regnamespace::text <> '_timescaledb_internal'
);

-- name: open_to_users
-- The roles that could read or write `metrics` work with what the stores need of our schema.
SELECT DISTINCT
    format('GRANT USAGE ON SCHEMA mlops TO %1$s', who.name) AS usage,
    format(
        'GRANT %1$s ON ALL TABLES IN SCHEMA mlops TO %2$s',
        CASE WHEN who.writes THEN 'SELECT, INSERT, UPDATE, DELETE' ELSE 'SELECT' END, who.name
    ) AS tables,
    format('GRANT USAGE ON ALL SEQUENCES IN SCHEMA mlops TO %1$s', who.name) AS sequences
FROM (
    SELECT coalesce(quote_ident(rolname), 'PUBLIC') AS name, bool_or(privilege_type = 'INSERT') AS writes
    FROM pg_class
    CROSS JOIN aclexplode(coalesce(relacl, acldefault('r', relowner))) AS acl
    LEFT JOIN pg_roles ON pg_roles.oid = acl.grantee
    WHERE pg_class.oid = 'metrics'::regclass AND privilege_type IN ('SELECT', 'INSERT')
    GROUP BY 1
) AS who
WHERE who.name <> quote_ident(current_user)
    AND pg_has_role(
        (SELECT nspowner FROM pg_namespace WHERE nspname = 'mlops'), 'MEMBER'
    );
