-- name: record_block
-- Record a request of one block, unless it is recorded already: true if it was new.
SELECT CASE WHEN mlops.claim_request(%(request)s, %(content)s) THEN
    (mlops.add_served_block(
        %(strategy_id)s,
        ROW(
            %(session)s, %(signal_id)s, %(feature_set_id)s, %(origin_id)s, %(block)s, %(latency_ms)s,
            %(as_of)s, NULL, %(request_id)s, %(entities)s, %(outputs)s, %(values)s, %(absent)s,
            %(others)s, %(event_times)s, %(event_positions)s
        )::mlops.served_blocks,
        %(groups)s::text[]
    ) IS NOT NULL)
ELSE false END;

-- name: claim_request
-- Is this request new? It counts as recorded when the transaction commits.
SELECT mlops.claim_request(%(request)s, %(content)s);

-- name: add_block
-- Record a block of a claimed request.
SELECT mlops.add_served_block(
    %(strategy_id)s,
    ROW(
        %(session)s, %(signal_id)s, %(feature_set_id)s, %(origin_id)s, %(block)s, %(latency_ms)s,
        %(as_of)s, NULL, %(request_id)s, %(entities)s, %(outputs)s, %(values)s, %(absent)s,
        %(others)s, %(event_times)s, %(event_positions)s
    )::mlops.served_blocks,
    %(groups)s::text[]
);

-- name: number_feature_set
-- The number of a set of features; a new one is numbered. No row while another session adds it.
WITH added AS (
    INSERT INTO mlops.served_feature_sets (content, feature_names, feature_versions, source, reading)
    VALUES (%(content)s, %(names)s, %(versions)s, %(source)s, %(reading)s)
    ON CONFLICT (content) DO NOTHING
    RETURNING feature_set_id
)
SELECT feature_set_id FROM added
UNION ALL
SELECT feature_set_id FROM mlops.served_feature_sets WHERE content = %(content)s
LIMIT 1;

-- name: number_origin
-- The number of what ran; a new one is numbered. No row while another session adds it.
WITH added AS (
    INSERT INTO mlops.served_origins (content, model_uri, checksum, code_version, environment)
    VALUES (%(content)s, %(model_uri)s, %(checksum)s, %(code_version)s, %(environment)s)
    ON CONFLICT (content) DO NOTHING
    RETURNING origin_id
)
SELECT origin_id FROM added
UNION ALL
SELECT origin_id FROM mlops.served_origins WHERE content = %(content)s
LIMIT 1;

-- name: add_entities
-- Number the names that are new.
INSERT INTO mlops.drift_entities (entity_key)
SELECT DISTINCT name FROM unnest(%(names)s::text[]) AS name ORDER BY name
ON CONFLICT DO NOTHING;

-- name: entity_numbers
-- What are the numbers of these names?
SELECT entity_key, entity_id FROM mlops.drift_entities WHERE entity_key = ANY (%(names)s::text[]);

-- name: blocks
-- What was served by a strategy in some sessions, in the order of sessions and decisions? Of one
-- entity, of one request, or up to a decision time, where these are given.
SELECT
    b.session, b.as_of, b.recorded_at, b.request_id, b.block, b.latency_ms,
    s.signal_name, s.horizon, s.model_name, s.model_version,
    o.model_uri, o.checksum, o.code_version, o.environment,
    f.feature_names, f.feature_versions, f.source, f.reading,
    b.entities, b.outputs, b."values", b.absent, b.others, b.event_times, b.event_positions
FROM mlops.served_blocks AS b
JOIN mlops.drift_signals AS s USING (signal_id)
JOIN mlops.served_origins AS o USING (origin_id)
JOIN mlops.served_feature_sets AS f USING (feature_set_id)
WHERE b.signal_id = ANY (ARRAY(
        SELECT signal_id FROM mlops.drift_signals WHERE strategy_id = %(strategy_id)s
    ))
    AND b.session BETWEEN %(start)s AND %(end)s
    AND (%(as_of)s::timestamptz IS NULL OR b.as_of <= %(as_of)s)
    AND (%(request_id)s::text IS NULL OR b.request_id = %(request_id)s)
    AND (%(entity_id)s::integer IS NULL OR %(entity_id)s = ANY (b.entities))
ORDER BY b.session, b.as_of, b.recorded_at, b.request_id, b.block;

-- name: last_session
-- In which session did a strategy serve last, up to a date?
SELECT max(session) FROM mlops.served_blocks
WHERE signal_id = ANY (ARRAY(
        SELECT signal_id FROM mlops.drift_signals WHERE strategy_id = %(strategy_id)s
    ))
    AND (%(end)s::date IS NULL OR session <= %(end)s);

-- name: removed_before
-- Of which sessions did retention remove what was served?
SELECT max(before) FROM mlops.served_removals;

-- name: measure_served
-- How many predictions lie before a date?
SELECT coalesce(sum(cardinality(entities)), 0)::bigint FROM mlops.served_blocks WHERE session < %(before)s;

-- name: delete_served
-- Remove what lies before a date, where it is no whole chunk.
DELETE FROM mlops.served_blocks WHERE session < %(before)s;

-- name: drop_served_chunks
-- Remove the chunks that lie before a date, which frees their space at once.
SELECT drop_chunks('mlops.served_blocks', older_than => %(before)s::date);

-- name: delete_requests
-- A request of such an age is not sent again.
DELETE FROM mlops.requests WHERE recorded_at < %(before)s::date;

-- name: add_removal
-- Remember what was removed.
INSERT INTO mlops.served_removals (before, predictions) VALUES (%(before)s, %(predictions)s);

-- name: version_checksum
-- The SHA-256 of all files of a model version.
SELECT checksum FROM mlops.version_checksums
WHERE workspace = %(workspace)s AND name = %(name)s AND version = %(version)s;
