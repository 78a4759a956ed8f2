-- name: record
-- Enter files into the ledger, and close earlier rows of theirs.
SELECT mlops.record_artifacts(
    %(locations)s::text[], %(types)s::text[], %(checksums)s::text[], %(sizes)s::bigint[],
    %(origin)s, %(mlflow_user)s
);

-- name: set_type
-- Set the type of a file.
SELECT mlops.set_artifact_type(%(path)s, %(run_id)s, %(model_id)s, %(artifact_type)s);

-- name: end_under
-- Close the ledger's rows of a file or a directory that was deleted, except those that are kept.
SELECT mlops.end_artifacts(%(location)s, %(kept)s::text[]);

-- name: needed_under
-- Which files of a place does a registered version need, and which version? `owner` is the run or
-- logged model of the place: its id is in the source of every version that has files there.
SELECT artifact.location, max(version.name || '/' || version.version) AS version
FROM model_versions AS version
CROSS JOIN LATERAL mlops.source_files(
    coalesce(version.storage_location, version.source)::text, version.run_id::text
) AS artifact
WHERE version.current_stage IS DISTINCT FROM 'Deleted_Internal'
    AND (%(owner)s::text IS NULL OR strpos(
        concat_ws(' ', version.storage_location, version.source, version.run_id), %(owner)s) > 0)
    AND (artifact.location = %(location)s
        OR artifact.location >= %(location)s || '/' AND artifact.location < %(location)s || '0')
GROUP BY artifact.location
ORDER BY artifact.location;

-- name: current_under
-- The ledger rows of a file, or of all files in a directory.
SELECT artifact_id, location, run_id, model_id, artifact_path, artifact_type, checksum, size_bytes,
    origin, created_at, db_user, mlflow_user, ended_at, ended,
    -- As JSON: a schema that waits for its migration has no such columns.
    to_jsonb(artifact) ->> 'authenticated_user', to_jsonb(artifact) ->> 'claimed_user'
FROM mlops.model_artifacts AS artifact
WHERE ended_at IS NULL
    AND (location = %(location)s OR location >= %(location)s || '/' AND location < %(location)s || '0')
ORDER BY location;

-- name: select_entries
-- Which ledger rows belong to a run, a logged model, a directory; the longest unchecked first?
SELECT artifact_id, location, run_id, model_id, artifact_path, artifact_type, checksum, size_bytes,
    origin, created_at, db_user, mlflow_user, ended_at, ended,
    to_jsonb(artifact) ->> 'authenticated_user', to_jsonb(artifact) ->> 'claimed_user'
FROM mlops.model_artifacts AS artifact
WHERE (%(history)s OR ended_at IS NULL)
    AND (%(run_id)s::text IS NULL OR run_id = %(run_id)s)
    AND (%(model_id)s::text IS NULL OR model_id = %(model_id)s)
    AND (%(path)s::text IS NULL
        OR artifact_path = %(path)s
        OR artifact_path >= %(path)s || '/' AND artifact_path < %(path)s || '0')
    AND (%(location)s::text IS NULL
        OR location = %(location)s
        OR location >= %(location)s || '/' AND location < %(location)s || '0')
    AND (%(audit_id)s::bigint IS NULL OR NOT EXISTS (
        SELECT FROM mlops.artifact_checks AS seen
        WHERE seen.artifact_id = artifact.artifact_id AND seen.audit_id = %(audit_id)s))
ORDER BY
    CASE WHEN %(sample)s::bigint IS NOT NULL THEN (
        SELECT extract(epoch FROM max(checked_at)) FROM mlops.artifact_checks AS earlier
        WHERE earlier.artifact_id = artifact.artifact_id AND earlier.purpose = 'audit')
    END NULLS FIRST,
    CASE WHEN %(sample)s::bigint IS NOT NULL THEN random() END,
    location, created_at
LIMIT %(sample)s;

-- name: record_checks
-- Remember what was found.
INSERT INTO mlops.artifact_checks
    (artifact_id, audit_id, location, purpose, outcome, found_checksum, found_size, mlflow_user)
SELECT artifact_id, %(audit_id)s, location, %(purpose)s, outcome, found_checksum, found_size,
    %(mlflow_user)s
FROM unnest(
    %(artifact_ids)s::bigint[], %(locations)s::text[], %(outcomes)s::text[],
    %(checksums)s::text[], %(sizes)s::bigint[]
) AS found (artifact_id, location, outcome, found_checksum, found_size);

-- name: start_audit
-- Begin an audit.
INSERT INTO mlops.artifact_audits (selection) VALUES (%(selection)s) RETURNING audit_id;

-- name: unfinished_audit
-- Which audit of the same selection was interrupted last?
SELECT audit_id FROM mlops.artifact_audits
WHERE finished_at IS NULL AND selection = %(selection)s ORDER BY audit_id DESC LIMIT 1;

-- name: finish_audit
-- End an audit.
UPDATE mlops.artifact_audits SET finished_at = clock_timestamp() WHERE audit_id = %(audit_id)s;

-- name: version_changes
-- Which files of registered versions are not what was registered?
SELECT location, change, name || '/' || version, registered, current FROM mlops.version_changes
ORDER BY name, version, location;

-- name: audit_outcomes
-- What has an audit found so far?
SELECT outcome, count(*) FROM mlops.artifact_checks WHERE audit_id = %(audit_id)s GROUP BY outcome;

-- name: audit_failures
-- What has an audit found so far that is not as it was logged?
SELECT seen.location, outcome, artifact_id, checksum, size_bytes, found_checksum, found_size
FROM mlops.artifact_checks AS seen JOIN mlops.model_artifacts USING (artifact_id)
WHERE audit_id = %(audit_id)s AND outcome <> 'match'
ORDER BY seen.location;

-- name: roots
-- Where do the runs and logged models keep their files?
SELECT artifact_uri, coalesce(experiment_id, 0) AS experiment_id FROM runs
WHERE (%(run_id)s::text IS NULL OR run_uuid = %(run_id)s)
    AND %(model_id)s::text IS NULL AND artifact_uri IS NOT NULL
UNION
SELECT artifact_location, experiment_id FROM logged_models
WHERE (%(model_id)s::text IS NULL OR model_id = %(model_id)s)
    AND (%(run_id)s::text IS NULL OR source_run_id = %(run_id)s)
ORDER BY 1;

-- name: snapshot
-- See one moment of the database for the rest of this transaction.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: next_content_ids
-- Numbers for contents that are about to be written.
SELECT nextval(pg_get_serial_sequence('mlops.artifact_contents', 'content_id'))
FROM generate_series(1, %(count)s);

-- name: copy_chunks_in
-- Write chunks.
COPY mlops.artifact_chunks (content_id, number, data) FROM STDIN (FORMAT binary);

-- name: known_contents
-- Which of these contents are stored? They cannot be removed until this transaction ends.
SELECT sha256, content_id FROM mlops.hold_contents(%(digests)s::bytea[]);

-- name: store_contents
-- Enter contents whose chunks are written; under which number is each stored now?
SELECT sha256, content_id FROM mlops.store_contents(
    %(content_ids)s::bigint[], %(digests)s::bytea[], %(chunk_size)s
);

-- name: take_turns
-- Wait until no other transaction adds files to these runs or logged models.
SELECT pg_advisory_xact_lock(hashtextextended('mlops artifacts ' || turn.name, 0))
FROM (SELECT name FROM unnest(%(turns)s::text[]) AS given (name) ORDER BY name) AS turn;

-- name: clash
-- Which path is a directory already, or below what is a file already?
(
    SELECT file.path, existing.path AS existing
    FROM unnest(%(paths)s::text[]) AS file (path)
    CROSS JOIN LATERAL (
        SELECT path FROM mlops.artifact_files
        WHERE path >= file.path || '/' AND path < file.path || '0' LIMIT 1
    ) AS existing
    LIMIT 1
)
UNION ALL
(
    SELECT file.path, existing.path
    FROM mlops.artifact_files AS existing
    JOIN unnest(%(paths)s::text[]) AS file (path) ON starts_with(file.path, existing.path || '/')
    WHERE existing.path = ANY(%(above)s)
    LIMIT 1
);

-- name: clash_in_ledger
-- The same for the files of another store, by their rows in the ledger.
(
    SELECT file.location, existing.location AS existing
    FROM unnest(%(locations)s::text[]) AS file (location)
    CROSS JOIN LATERAL (
        SELECT location FROM mlops.model_artifacts
        WHERE ended_at IS NULL
            AND location >= file.location || '/' AND location < file.location || '0'
        LIMIT 1
    ) AS existing
    LIMIT 1
)
UNION ALL
(
    SELECT file.location, existing.location
    FROM mlops.model_artifacts AS existing
    JOIN unnest(%(locations)s::text[]) AS file (location)
        ON starts_with(file.location, existing.location || '/')
    WHERE existing.ended_at IS NULL AND existing.location = ANY(%(above)s)
    LIMIT 1
);

-- name: put_files
-- Point paths at contents, on the record; at which did they point before?
SELECT mlops.put_files(
    %(paths)s::text[], %(content_ids)s::bigint[], %(types)s::text[], %(mlflow_user)s
);

-- name: attribute
-- Set, for the rest of this transaction, whom the server authenticated, and who the client claims to be.
SELECT set_config('mlops.authenticated_user', %(authenticated)s, true),
    set_config('mlops.claimed_user', %(claimed)s, true);

-- name: override
-- Let the rest of this transaction change files of registered versions, on the record.
SELECT set_config('mlops.override', 'true', true), set_config('mlops.user', %(user)s, true),
    set_config('mlops.reason', %(reason)s, true);

-- name: frozen
-- Which of these files belong to the place of a registered version, and with which bytes?
SELECT file.location, min(version.name || '/' || version.version), min(version.checksum)
FROM unnest(%(locations)s::text[]) AS file (location)
CROSS JOIN LATERAL (
    SELECT DISTINCT f.name, f.version, (
        SELECT own.checksum FROM mlops.version_files AS own
        WHERE (own.workspace, own.name, own.version) = (f.workspace, f.name, f.version)
            AND own.location = file.location
    ) AS checksum
    FROM mlops.version_files AS f
    WHERE f.place = ANY (mlops.places_above(file.location))
) AS version
GROUP BY file.location;

-- name: recorded
-- Below which of these places does the ledger have current files?
SELECT place FROM unnest(%(places)s::text[]) AS given (place)
WHERE EXISTS (
    SELECT FROM mlops.model_artifacts
    WHERE ended_at IS NULL AND location >= place || '/' AND location < place || '0');

-- name: places_behind_proxy
-- Where did a server put the files of a run or logged model whose URI names the server?
SELECT DISTINCT substr(location, 1, strpos(location, %(path)s || '/') + length(%(path)s) - 1)
FROM mlops.model_artifacts
WHERE ended_at IS NULL AND (run_id = %(run_id)s OR model_id = %(model_id)s)
    AND strpos(location, %(path)s || '/') > 0
ORDER BY 1;

-- name: places_of_experiment
-- Where do the runs, logged models and traces of an experiment keep their files?
SELECT artifact_uri FROM runs WHERE experiment_id = %(experiment_id)s AND artifact_uri IS NOT NULL
UNION
SELECT artifact_location FROM logged_models WHERE experiment_id = %(experiment_id)s
UNION
SELECT tag.value FROM trace_tags AS tag JOIN trace_info USING (request_id)
WHERE tag.key = 'mlflow.artifactLocation' AND trace_info.experiment_id = %(experiment_id)s;

-- name: places_of_traces
-- Where do these traces keep their files?
SELECT request_id, value FROM trace_tags
WHERE key = 'mlflow.artifactLocation' AND request_id = ANY(%(trace_ids)s);

-- name: traces_left
-- Which of these traces exist?
SELECT request_id FROM trace_info WHERE request_id = ANY(%(trace_ids)s);

-- name: orphans
-- Which current files belong to runs, logged models and traces that do not exist any more, and are
-- needed by no registered version?
SELECT orphan.location, orphan.size_bytes
FROM (
    SELECT location, size_bytes FROM mlops.model_artifacts AS artifact
    WHERE ended_at IS NULL AND CASE
        WHEN model_id IS NOT NULL THEN NOT EXISTS (
            SELECT FROM logged_models AS model WHERE model.model_id = artifact.model_id)
        WHEN run_id IS NOT NULL THEN NOT EXISTS (
            SELECT FROM runs WHERE runs.run_uuid = artifact.run_id)
        WHEN location ~ '/traces/tr-[0-9a-f]{32}/artifacts/' THEN NOT EXISTS (
            SELECT FROM trace_info
            WHERE request_id = substring(location FROM '/traces/(tr-[0-9a-f]{32})/artifacts/'))
        ELSE false
    END
) AS orphan
LEFT JOIN (
    SELECT DISTINCT file.location
    FROM model_versions AS version
    CROSS JOIN LATERAL mlops.source_files(
        coalesce(version.storage_location, version.source)::text, version.run_id::text
    ) AS file
    WHERE version.current_stage IS DISTINCT FROM 'Deleted_Internal'
) AS needed USING (location)
WHERE needed.location IS NULL
ORDER BY orphan.location;

-- name: store_size
-- How many bytes do the tables of the in-database store take, and how many are in use?
SELECT
    pg_total_relation_size('mlops.artifact_chunks') + pg_total_relation_size('mlops.artifact_files')
        + pg_total_relation_size('mlops.artifact_contents') AS taken,
    (SELECT coalesce(sum(size_bytes), 0)::bigint FROM mlops.artifact_contents) AS used;

-- name: vacuum
-- Make the space of deleted chunks reusable, and give what is free at the end of the files back to
-- the operating system. VACUUM waits for no reader and gives way to who waits for it.
VACUUM mlops.artifact_chunks, mlops.artifact_contents, mlops.artifact_files;

-- name: remove_files
-- Take a file or a directory out of the store, except the files that are kept; what were their contents?
SELECT mlops.remove_files(%(path)s, %(kept)s::text[]);

-- name: unreferenced
-- Which contents does no path point at? Those that are kept are among them: a database that waits for
-- its migration keeps none, and mlops.release_contents leaves them.
SELECT content_id FROM mlops.artifact_contents AS content
WHERE NOT EXISTS (
    SELECT FROM mlops.artifact_files AS file WHERE file.content_id = content.content_id);

-- name: release_contents
-- Free the bytes of those contents that no path points at any more.
SELECT mlops.release_contents(%(content_ids)s::bigint[]);

-- name: directory
-- What lies directly in a directory of the store?
SELECT split_part(rest, '/', 1) AS name, bool_or(strpos(rest, '/') > 0) AS is_directory,
    max(size_bytes) AS size_bytes
FROM (
    SELECT substr(path, length(%(prefix)s) + 1) AS rest, size_bytes
    FROM mlops.artifact_files JOIN mlops.artifact_contents USING (content_id)
    WHERE %(prefix)s = '' OR path >= %(prefix)s AND path < rtrim(%(prefix)s, '/') || '0'
) AS file
GROUP BY 1 ORDER BY 1;

-- name: manifest
-- Which files are there at a path or below it, and what does the ledger expect of them?
SELECT path, content_id, contents.size_bytes, chunk_size, chunk_sha256,
    encode(contents.sha256, 'hex') AS stored_checksum, artifact_id, checksum
FROM mlops.artifact_files
JOIN mlops.artifact_contents AS contents USING (content_id)
LEFT JOIN mlops.model_artifacts AS ledger
    ON ledger.location = %(scheme)s || path AND ledger.ended_at IS NULL
WHERE %(path)s = '' OR path = %(path)s OR path >= %(path)s || '/' AND path < %(path)s || '0'
ORDER BY path;

-- name: copy_chunks_out
-- Read chunks in order; the content states how many it has. LATERAL keeps one walk along the key for
-- each content, whose rows need no sorting.
COPY (
    SELECT content.content_id, chunk.number, chunk.data
    FROM (
        SELECT content_id, cardinality(chunk_sha256) AS chunks FROM mlops.artifact_contents
        WHERE content_id = ANY(%(content_ids)s) ORDER BY content_id
    ) AS content
    CROSS JOIN LATERAL (
        SELECT number, data FROM mlops.artifact_chunks AS c
        WHERE c.content_id = content.content_id
            AND number BETWEEN %(first)s AND least(%(last)s, content.chunks - 1)
        ORDER BY number
    ) AS chunk
) TO STDOUT (FORMAT binary);

-- name: versions
-- Every version of a file of a run or logged model, the oldest first: the ledger's row, and whether its
-- bytes are in the database.
SELECT artifact_id, location, checksum, version.size_bytes, created_at, ended_at, ended, db_user,
    state ->> 'authenticated_user', coalesce(state ->> 'claimed_user', mlflow_user),
    content.content_id
FROM mlops.model_artifacts AS version
CROSS JOIN LATERAL to_jsonb(version) AS state
LEFT JOIN mlops.artifact_contents AS content
    ON content.sha256 = decode(version.checksum, 'hex') AND content.size_bytes = version.size_bytes
WHERE artifact_path = %(path)s AND (run_id = %(owner)s OR model_id = %(owner)s)
ORDER BY created_at, artifact_id;

-- name: has_former
-- Has this database a table of former contents?
SELECT to_regclass('mlops.former_contents') IS NOT NULL;

-- name: former
-- How many former contents are kept, and how many bytes are in the database only for them?
SELECT count(*), coalesce(sum(size_bytes) FILTER (WHERE is_only), 0)::bigint
FROM (
    SELECT content.size_bytes,
        row_number() OVER (PARTITION BY content_id) = 1 AND NOT EXISTS (
            SELECT FROM mlops.artifact_files AS file WHERE file.content_id = content.content_id
        ) AS is_only
    FROM mlops.former_contents AS former
    JOIN mlops.model_artifacts AS version USING (artifact_id)
    JOIN mlops.artifact_contents AS content USING (content_id)
    WHERE %(before)s::timestamptz IS NULL OR version.ended_at < %(before)s
) AS kept;

-- name: former_under
-- How many former contents of files below these places are kept, of how many bytes, and of which paths?
SELECT count(*), coalesce(sum(size_bytes), 0)::bigint, string_agg(DISTINCT artifact_path, ', ')
FROM mlops.former_contents JOIN mlops.model_artifacts AS version USING (artifact_id)
WHERE EXISTS (
    SELECT FROM unnest(%(places)s::text[]) AS given (place)
    WHERE version.location >= place || '/' AND version.location < place || '0');

-- name: forget_former
-- Keep the former contents no longer that ended before a time; what were they?
DELETE FROM mlops.former_contents AS former
USING mlops.model_artifacts AS version
WHERE version.artifact_id = former.artifact_id AND version.ended_at < %(before)s
RETURNING former.content_id;

-- name: keep_path
-- Keep the former contents of these paths from now on, or no longer; was that a change?
SELECT mlops.keep_path(%(pattern)s, %(kept)s);

-- name: kept_paths
-- Of which paths are, or were, former contents kept?
SELECT pattern, kept_from, kept_to, db_user FROM mlops.kept_paths ORDER BY pattern, kept_from;
