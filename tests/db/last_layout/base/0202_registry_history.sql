--! requires: mlflow
-- What the model registry said, and when: aliases, stages, versions, their tags, models. Aliases
-- change on five paths of MLflow (set, delete, delete of a version, foreign-key cascades of a model's
-- delete and rename), and deleting a version overwrites where it came from: only the database sees
-- them all.
CREATE TABLE mlops.registry_history (
    history_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('model', 'version', 'alias', 'stage', 'tag')),
    subject text NOT NULL,
    version integer,
    value text,
    detail jsonb NOT NULL DEFAULT '{}',
    valid_from timestamptz NOT NULL,
    valid_to timestamptz CHECK (valid_to > valid_from),
    db_user text NOT NULL DEFAULT session_user,
    mlflow_user text,
    reason text,
    ended text CHECK (ended IN ('changed', 'deleted', 'renamed')),
    ended_db_user text,
    ended_mlflow_user text,
    ended_reason text,
    -- The exclusion constraint needs something that GiST compares without an extension: a range of
    -- one number for each thing that has a history.
    thing numeric NOT NULL GENERATED ALWAYS AS (hashtextextended(
        workspace || E'\x1f' || name || E'\x1f' || kind || E'\x1f' || subject, 0)::numeric) STORED,
    CHECK ((valid_to IS NULL) = (ended IS NULL)),
    CONSTRAINT registry_history_has_no_overlap EXCLUDE USING gist (
        numrange(thing, thing, '[]') WITH &&, tstzrange(valid_from, valid_to) WITH &&)
);
CREATE UNIQUE INDEX registry_history_open
    ON mlops.registry_history (workspace, name, kind, subject) WHERE valid_to IS NULL;
CREATE INDEX registry_history_subject
    ON mlops.registry_history (workspace, name, kind, subject, valid_from DESC);

-- End what a thing was, begin what it is now; with was = now it is not touched. Times of one thing
-- only grow, even where the clock is set back, and one state ends exactly where the next begins.
CREATE FUNCTION mlops.registry_change(
    kind_of text, was_name text, was_subject text, now_name text, now_subject text,
    in_workspace text, of_version integer, new_value text, new_detail jsonb
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    last_moment timestamptz;
    by_user text := nullif(current_setting('mlops.user', true), '');
    because text := nullif(current_setting('mlops.reason', true), '');
BEGIN
    SELECT max(latest) INTO last_moment FROM (
        SELECT coalesce(valid_to, valid_from + interval '1 microsecond') AS latest
        FROM unnest(ARRAY[was_name, now_name], ARRAY[was_subject, now_subject]) AS thing (n, s)
        CROSS JOIN LATERAL (
            SELECT h.valid_from, h.valid_to FROM mlops.registry_history AS h
            WHERE h.workspace = in_workspace AND h.name = thing.n AND h.kind = kind_of
                AND h.subject = thing.s
            ORDER BY h.valid_from DESC LIMIT 1) AS newest
    ) AS both_things;
    moment := greatest(moment, last_moment);
    UPDATE mlops.registry_history AS h SET
        valid_to = moment,
        ended = CASE
            WHEN now_name IS NULL THEN 'deleted'
            WHEN now_name <> h.name OR now_subject <> h.subject THEN 'renamed'
            ELSE 'changed' END,
        ended_db_user = session_user, ended_mlflow_user = by_user, ended_reason = because
    WHERE h.workspace = in_workspace AND h.kind = kind_of AND h.valid_to IS NULL
        AND (h.name = was_name AND h.subject = was_subject
            OR h.name = now_name AND h.subject = now_subject);
    IF now_name IS NOT NULL THEN
        INSERT INTO mlops.registry_history
            (workspace, name, kind, subject, version, value, detail, valid_from, mlflow_user, reason)
        VALUES (
            in_workspace, now_name, kind_of, now_subject, of_version, new_value,
            coalesce(new_detail, '{}') || CASE
                WHEN was_name <> now_name THEN jsonb_build_object('renamed_from', was_name)
                ELSE '{}' END || CASE
                WHEN current_setting('mlops.override', true) = 'true' THEN '{"override": true}'::jsonb
                ELSE '{}' END,
            moment, by_user, because);
    END IF;
END $$;

-- What of a row of MLflow's a history is about; NULL where there is nothing (a deleted version stays
-- in MLflow's table under the stage Deleted_Internal).
CREATE FUNCTION mlops.registry_subject(kind text, item jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN item IS NULL OR item ->> 'current_stage' = 'Deleted_Internal' THEN NULL
        WHEN kind = 'alias' THEN item ->> 'alias'
        WHEN kind = 'tag' THEN (item ->> 'version') || '/' || (item ->> 'key')
        WHEN kind = 'model' THEN ''
        ELSE item ->> 'version'
    END
$$;
CREATE FUNCTION mlops.registry_value(kind text, item jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE kind
        WHEN 'alias' THEN item ->> 'version'
        WHEN 'tag' THEN item ->> 'value'
        WHEN 'stage' THEN item ->> 'current_stage'
        WHEN 'version' THEN item ->> 'source'
    END
$$;
CREATE FUNCTION mlops.registry_detail(kind text, item jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE kind
        WHEN 'version' THEN jsonb_strip_nulls(jsonb_build_object(
            'run_id', item -> 'run_id', 'storage_location', item -> 'storage_location',
            'user_id', item -> 'user_id'))
        ELSE '{}'
    END
$$;

-- The trigger of all five tables; its argument is the kind of history. The rows go through JSON so
-- that MLflow's own migrations may add, drop and alter columns as they like. SECURITY DEFINER: who
-- may move an alias must not be able to do so without leaving a trace.
CREATE FUNCTION mlops.keep_registry_history() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, mlops AS $$
DECLARE
    kind text := TG_ARGV[0];
    was jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    now_is jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    was_subject text := mlops.registry_subject(kind, was);
    now_subject text := mlops.registry_subject(kind, now_is);
BEGIN
    IF (was_subject, mlops.registry_value(kind, was), CASE WHEN was_subject IS NOT NULL THEN was ->> 'name' END)
        IS NOT DISTINCT FROM
        (now_subject, mlops.registry_value(kind, now_is), CASE WHEN now_subject IS NOT NULL THEN now_is ->> 'name' END)
        OR (was_subject IS NULL AND now_subject IS NULL) THEN
        RETURN NULL;
    END IF;
    PERFORM mlops.registry_change(
        kind,
        CASE WHEN was_subject IS NOT NULL THEN was ->> 'name' END, was_subject,
        CASE WHEN now_subject IS NOT NULL THEN now_is ->> 'name' END, now_subject,
        coalesce(now_is ->> 'workspace', was ->> 'workspace', 'default'),
        (coalesce(now_is, was) ->> 'version')::integer,
        mlops.registry_value(kind, now_is), mlops.registry_detail(kind, now_is));
    RETURN NULL;
END $$;

CREATE TRIGGER mlops_history AFTER INSERT OR UPDATE OR DELETE ON registered_model_aliases
    FOR EACH ROW EXECUTE FUNCTION mlops.keep_registry_history('alias');
CREATE TRIGGER mlops_history_version AFTER INSERT OR UPDATE OR DELETE ON model_versions
    FOR EACH ROW EXECUTE FUNCTION mlops.keep_registry_history('version');
CREATE TRIGGER mlops_history_stage AFTER INSERT OR UPDATE OR DELETE ON model_versions
    FOR EACH ROW EXECUTE FUNCTION mlops.keep_registry_history('stage');
CREATE TRIGGER mlops_history AFTER INSERT OR UPDATE OR DELETE ON model_version_tags
    FOR EACH ROW EXECUTE FUNCTION mlops.keep_registry_history('tag');
CREATE TRIGGER mlops_history AFTER INSERT OR UPDATE OR DELETE ON registered_models
    FOR EACH ROW EXECUTE FUNCTION mlops.keep_registry_history('model');

-- What is there already: versions since they were created, the rest since now, for nobody knows.
INSERT INTO mlops.registry_history
    (workspace, name, kind, subject, version, value, detail, valid_from, mlflow_user, reason)
SELECT
    coalesce(item ->> 'workspace', 'default'), item ->> 'name', kind,
    mlops.registry_subject(kind, item), (item ->> 'version')::integer,
    mlops.registry_value(kind, item), mlops.registry_detail(kind, item),
    CASE WHEN kind IN ('version', 'model') AND item ->> 'creation_time' IS NOT NULL
        THEN to_timestamp((item ->> 'creation_time')::bigint / 1000.0)
        ELSE clock_timestamp() END,
    item ->> 'user_id', 'the history begins here'
FROM (
    SELECT 'alias' AS kind, to_jsonb(a) AS item FROM registered_model_aliases AS a
    UNION ALL SELECT kind, to_jsonb(v) FROM model_versions AS v, unnest(ARRAY['version', 'stage']) AS kind
    UNION ALL SELECT 'tag', to_jsonb(t) FROM model_version_tags AS t
    UNION ALL SELECT 'model', to_jsonb(m) FROM registered_models AS m
) AS existing
WHERE mlops.registry_subject(kind, item) IS NOT NULL;

CREATE VIEW mlops.alias_history AS
SELECT workspace, name, subject AS alias, version, valid_from, valid_to, db_user, mlflow_user, reason,
    coalesce((detail ->> 'override')::boolean, false) AS override,
    ended, ended_db_user, ended_mlflow_user, ended_reason
FROM mlops.registry_history WHERE kind = 'alias';
