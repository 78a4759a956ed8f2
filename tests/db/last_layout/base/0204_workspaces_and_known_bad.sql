--! requires: mlflow
-- A model that changes its workspace keeps its past, as one that is renamed does: MLflow moves models
-- to the default workspace when theirs is deleted. What a thing was and what it is now may differ in
-- workspace, name and subject; the rest is as in 0202.
DROP FUNCTION mlops.registry_change(text, text, text, text, text, text, integer, text, jsonb);
CREATE FUNCTION mlops.registry_change(
    kind_of text, was_workspace text, was_name text, was_subject text,
    now_workspace text, now_name text, now_subject text,
    of_version integer, new_value text, new_detail jsonb
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    last_moment timestamptz;
    by_user text := nullif(current_setting('mlops.user', true), '');
    because text := nullif(current_setting('mlops.reason', true), '');
BEGIN
    SELECT max(latest) INTO last_moment FROM (
        SELECT coalesce(valid_to, valid_from + interval '1 microsecond') AS latest
        FROM unnest(
            ARRAY[was_workspace, now_workspace], ARRAY[was_name, now_name],
            ARRAY[was_subject, now_subject]) AS thing (w, n, s)
        CROSS JOIN LATERAL (
            SELECT h.valid_from, h.valid_to FROM mlops.registry_history AS h
            WHERE h.workspace = thing.w AND h.name = thing.n AND h.kind = kind_of
                AND h.subject = thing.s
            ORDER BY h.valid_from DESC LIMIT 1) AS newest
    ) AS both_things;
    moment := greatest(moment, last_moment);
    UPDATE mlops.registry_history AS h SET
        valid_to = moment,
        ended = CASE
            WHEN now_name IS NULL THEN 'deleted'
            WHEN (now_workspace, now_name, now_subject) IS DISTINCT FROM
                (h.workspace, h.name, h.subject) THEN 'renamed'
            ELSE 'changed' END,
        ended_db_user = session_user, ended_mlflow_user = by_user, ended_reason = because
    WHERE h.kind = kind_of AND h.valid_to IS NULL
        AND (h.workspace = was_workspace AND h.name = was_name AND h.subject = was_subject
            OR h.workspace = now_workspace AND h.name = now_name AND h.subject = now_subject);
    IF now_name IS NOT NULL THEN
        INSERT INTO mlops.registry_history
            (workspace, name, kind, subject, version, value, detail, valid_from, mlflow_user, reason)
        VALUES (
            now_workspace, now_name, kind_of, now_subject, of_version, new_value,
            coalesce(new_detail, '{}') || jsonb_strip_nulls(jsonb_build_object(
                'renamed_from', CASE WHEN was_name <> now_name THEN was_name END,
                'workspace_from', CASE WHEN was_workspace <> now_workspace THEN was_workspace END,
                'override', CASE
                    WHEN current_setting('mlops.override', true) = 'true' THEN true END)),
            moment, by_user, because);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION mlops.keep_registry_history() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, mlops AS $$
DECLARE
    kind text := TG_ARGV[0];
    was jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    now_is jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    was_subject text := mlops.registry_subject(kind, was);
    now_subject text := mlops.registry_subject(kind, now_is);
    was_name text := CASE WHEN was_subject IS NOT NULL THEN was ->> 'name' END;
    now_name text := CASE WHEN now_subject IS NOT NULL THEN now_is ->> 'name' END;
    was_workspace text := CASE
        WHEN was_subject IS NOT NULL THEN coalesce(was ->> 'workspace', 'default') END;
    now_workspace text := CASE
        WHEN now_subject IS NOT NULL THEN coalesce(now_is ->> 'workspace', 'default') END;
BEGIN
    IF was_subject IS NULL AND now_subject IS NULL
        OR (was_workspace, was_name, was_subject, mlops.registry_value(kind, was))
            IS NOT DISTINCT FROM
            (now_workspace, now_name, now_subject, mlops.registry_value(kind, now_is)) THEN
        RETURN NULL;
    END IF;
    PERFORM mlops.registry_change(
        kind, was_workspace, was_name, was_subject, now_workspace, now_name, now_subject,
        (coalesce(now_is, was) ->> 'version')::integer,
        mlops.registry_value(kind, now_is), mlops.registry_detail(kind, now_is));
    RETURN NULL;
END $$;

-- The ledger's rows of a model version: its source says where its files are, a logged model or a
-- directory of a run.
CREATE FUNCTION mlops.source_files(source text, run_id text)
RETURNS SETOF mlops.model_artifacts LANGUAGE sql STABLE AS $$
    SELECT a.*
    FROM (SELECT
        coalesce(
            substring(source FROM '^models:/(m-[0-9a-f]{32})'),
            substring(source FROM '/models/(m-[0-9a-f]{32})/artifacts')
        ) AS model_id,
        coalesce(
            substring(source FROM '^runs:/([0-9a-f]{32})'),
            substring(source FROM '/([0-9a-f]{32})/artifacts'), run_id
        ) AS run_id,
        coalesce(
            substring(source FROM '^runs:/[0-9a-f]{32}/(.+?)/?$'),
            substring(source FROM '/(?:m-)?[0-9a-f]{32}/artifacts/(.+?)/?$')
        ) AS below
    ) AS owner
    JOIN mlops.model_artifacts AS a ON a.ended_at IS NULL
        AND (a.model_id = owner.model_id OR owner.model_id IS NULL AND a.run_id = owner.run_id)
        AND (owner.below IS NULL OR a.artifact_path = owner.below
            OR a.artifact_path >= owner.below || '/' AND a.artifact_path < owner.below || '0')
$$;

CREATE OR REPLACE FUNCTION mlops.source_artifacts(source text, run_id text)
RETURNS TABLE (checksum text, files bigint, size_bytes bigint) LANGUAGE sql STABLE AS $$
    SELECT
        encode(sha256(convert_to(string_agg(
            a.checksum || '  ' || a.artifact_path || E'\n', '' ORDER BY a.artifact_path
        ), 'UTF8')), 'hex'),
        count(*),
        coalesce(sum(a.size_bytes), 0)::bigint
    FROM mlops.source_files(source, run_id) AS a
$$;

-- What is known to be bad: files whose last check, whoever made it, found other bytes or none.
CREATE FUNCTION mlops.source_failures(source text, run_id text)
RETURNS TABLE (location text, outcome text, checked_at timestamptz) LANGUAGE sql STABLE AS $$
    SELECT a.location, latest.outcome, latest.checked_at
    FROM mlops.source_files(source, run_id) AS a
    CROSS JOIN LATERAL (
        SELECT c.outcome, c.checked_at FROM mlops.artifact_checks AS c
        WHERE c.artifact_id = a.artifact_id AND c.outcome IN ('match', 'mismatch', 'missing')
        ORDER BY c.checked_at DESC, c.check_id DESC LIMIT 1
    ) AS latest
    WHERE latest.outcome <> 'match'
    ORDER BY a.location
$$;

CREATE VIEW mlops.version_failures AS
SELECT v.workspace, v.name, v.version, failed.*
FROM mlops.mlflow_model_versions() AS v
CROSS JOIN LATERAL mlops.source_failures(v.source, v.run_id) AS failed;
COMMENT ON VIEW mlops.version_failures IS
    'Files of model versions that were found changed or missing, and not found whole since';

-- A protected alias is refused to a version that is known to be bad, on every path to it: plain SQL,
-- a client with MLflow's own store. The database cannot read files on other storage again; through
-- our store they are, before the alias moves.
CREATE FUNCTION mlops.refuse_known_bad() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, mlops AS $$
DECLARE
    moved jsonb := to_jsonb(NEW);
    was jsonb := CASE WHEN TG_OP = 'UPDATE' THEN to_jsonb(OLD) END;
    protected text[] := string_to_array(replace(
        coalesce(nullif(current_setting('mlops.protected_aliases', true), ''), 'champion'),
        ' ', ''), ',');
    first_failure record;
BEGIN
    IF moved ->> 'alias' <> ALL (protected)
        OR (moved ->> 'alias', moved ->> 'version') = (was ->> 'alias', was ->> 'version')
        OR current_setting('mlops.override', true) = 'true' THEN
        RETURN NULL;
    END IF;
    SELECT location, outcome, checked_at INTO first_failure
    FROM mlops.version_failures AS failed
    WHERE failed.workspace = coalesce(moved ->> 'workspace', 'default')
        AND failed.name = moved ->> 'name' AND failed.version = (moved ->> 'version')::integer
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'version % of % cannot become %: % did not verify (%, %)',
            moved ->> 'version', moved ->> 'name', moved ->> 'alias', first_failure.location,
            first_failure.outcome, first_failure.checked_at
            USING HINT = 'Log the model again, or verify it once it is restored (mlflow-timescale '
                'artifacts verify). To override it on the record: SET mlops.override = ''true'', '
                'and say why: SET mlops.reason = ''...''.';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER mlops_guard AFTER INSERT OR UPDATE ON registered_model_aliases
    FOR EACH ROW EXECUTE FUNCTION mlops.refuse_known_bad();
