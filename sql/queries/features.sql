-- name: find_series
-- Which ids have the series of these entities and features, by position of both, where they exist?
-- All series of an entity lie together in the index, so they are read in one go. (OFFSET 0 keeps it
-- so: while the table is new the planner knows nothing of it.)
SELECT array_agg(e.position::integer), array_agg(f.position::integer), array_agg(s.series_id)
FROM unnest(%(entities)s::text[]) WITH ORDINALITY AS e (entity_key, position)
CROSS JOIN LATERAL (
    SELECT s.feature_name, s.series_id
    FROM mlops.feature_series AS s
    WHERE s.entity_key = e.entity_key AND s.feature_version = %(version)s
    OFFSET 0
) AS s
JOIN unnest(%(features)s::text[]) WITH ORDINALITY AS f (feature_name, position)
    ON f.feature_name = s.feature_name;

-- name: create_series
-- Give ids to these pairs, which are positions among the names; in one order, so that writers that
-- meet cannot deadlock.
INSERT INTO mlops.feature_series (entity_key, feature_name, feature_version)
SELECT e.entity_key, f.feature_name, %(version)s
FROM unnest(%(entity)s::integer[], %(feature)s::integer[]) AS wanted (entity, feature)
JOIN unnest(%(entities)s::text[]) WITH ORDINALITY AS e (entity_key, position)
    ON e.position = wanted.entity
JOIN unnest(%(features)s::text[]) WITH ORDINALITY AS f (feature_name, position)
    ON f.position = wanted.feature
ORDER BY e.entity_key COLLATE "C", f.feature_name COLLATE "C"
ON CONFLICT DO NOTHING;

-- name: lock_series
-- Be the only writer of these series until the transaction ends; in one order, as above.
SELECT count(*) FROM (
    SELECT FROM mlops.feature_series
    WHERE series_id = ANY (%(series)s)
    ORDER BY series_id
    FOR NO KEY UPDATE
) AS locked;

-- name: lock_staged_series
-- The same for all series that are staged.
SELECT count(*) FROM (
    SELECT FROM mlops.feature_series
    WHERE series_id IN (SELECT series_id FROM pg_temp.feature_stage)
    ORDER BY series_id
    FOR NO KEY UPDATE
) AS locked;

-- name: announce_write
-- Let `watermark` see, until this transaction ends, that a stamp of this second or later may still
-- become visible. The key is a number of this package and the seconds since 2020, which last to 2088.
-- And a write may meet any number of compressed rows: the limit is meant for careless updates.
SELECT
    pg_advisory_xact_lock_shared(
        718281828, (floor(extract(epoch FROM clock_timestamp()))::bigint - 1577836800)::integer
    ),
    set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', true);

-- name: begin_write
-- Record who writes, stamped now.
INSERT INTO mlops.feature_writes (written_at, producer, producer_version, run_id, assumed_lag)
VALUES (
    clock_timestamp(), %(producer)s, %(producer_version)s, %(run_id)s, %(assumed_lag)s
)
RETURNING write_id, written_at;

-- name: finish_write
-- Record what a write brought.
UPDATE mlops.feature_writes
SET points = %(points)s, first_ingest = %(first)s, last_ingest = %(last)s
WHERE write_id = %(write_id)s;

-- name: forget_write
-- A write that brought nothing.
DELETE FROM mlops.feature_writes WHERE write_id = %(write_id)s;

-- name: overlaps
-- Does any of these series already hold a point between its first and its last new one?
SELECT EXISTS (
    SELECT FROM unnest(%(series)s::integer[], %(first)s::timestamptz[], %(last)s::timestamptz[])
        AS new (series_id, first_event, last_event)
    CROSS JOIN LATERAL (
        SELECT FROM mlops.feature_points AS p
        WHERE p.series_id = new.series_id
            AND p.event_time BETWEEN new.first_event AND new.last_event
        LIMIT 1
    ) AS stored
);

-- name: any_stored
-- Is there a point under any of these keys?
SELECT EXISTS (
    SELECT FROM unnest(%(series)s::integer[], %(event)s::timestamptz[], %(ingest)s::timestamptz[])
        AS key (series_id, event_time, ingest_time)
    CROSS JOIN LATERAL (
        SELECT FROM mlops.feature_points AS p
        WHERE p.series_id = key.series_id
            AND p.event_time = key.event_time
            AND p.ingest_time = key.ingest_time
        LIMIT 1
    ) AS stored
);

-- name: copy_points
-- Numbers, straight into the table.
COPY mlops.feature_points (series_id, event_time, ingest_time, write_id, value_double)
FROM STDIN (FORMAT binary);

-- name: copy_json_points
-- Structures, straight into the table.
COPY mlops.feature_points (series_id, event_time, ingest_time, write_id, value_json)
FROM STDIN (FORMAT binary);

-- name: create_stage
-- Where points wait that may already be stored; ingest_time is null where it is to be the stamp.
CREATE TEMPORARY TABLE feature_stage (
    series_id integer NOT NULL,
    event_time timestamptz NOT NULL,
    ingest_time timestamptz,
    value_double double precision,
    value_json jsonb
) ON COMMIT DROP;

-- name: copy_stage
-- Numbers with their ingest time.
COPY pg_temp.feature_stage (series_id, event_time, ingest_time, value_double)
FROM STDIN (FORMAT binary);

-- name: copy_json_stage
-- Structures with their ingest time.
COPY pg_temp.feature_stage (series_id, event_time, ingest_time, value_json)
FROM STDIN (FORMAT binary);

-- name: copy_stage_unstamped
-- Numbers that become known when they are stored.
COPY pg_temp.feature_stage (series_id, event_time, value_double) FROM STDIN (FORMAT binary);

-- name: copy_json_stage_unstamped
-- Structures that become known when they are stored.
COPY pg_temp.feature_stage (series_id, event_time, value_json) FROM STDIN (FORMAT binary);

-- name: analyze_stage
-- Give the planner the number of staged rows.
ANALYZE pg_temp.feature_stage;

-- name: staged
-- How many points wait, and what is the newest event, to compare with the stamp?
SELECT count(*), max(event_time) FROM pg_temp.feature_stage;

-- name: empty_stage
-- Make room for the next batch.
TRUNCATE pg_temp.feature_stage;

-- name: merge_observed
-- Store what is staged with an ingest time, unless its key is there.
INSERT INTO mlops.feature_points
    (series_id, write_id, event_time, ingest_time, value_double, value_json)
SELECT series_id, %(write_id)s, event_time, ingest_time, value_double, value_json
FROM pg_temp.feature_stage
ORDER BY series_id, event_time, ingest_time
ON CONFLICT DO NOTHING;

-- name: merge_now
-- Store what is staged without an ingest time as known from the stamp on, unless that is the value
-- as it is known already.
INSERT INTO mlops.feature_points
    (series_id, write_id, event_time, ingest_time, value_double, value_json)
SELECT
    s.series_id, %(write_id)s, s.event_time, %(stamp)s::timestamptz, s.value_double, s.value_json
FROM pg_temp.feature_stage AS s
LEFT JOIN LATERAL (
    SELECT p.value_double, p.value_json
    FROM mlops.feature_points AS p
    WHERE p.series_id = s.series_id
        AND p.event_time = s.event_time
        AND p.ingest_time <= %(stamp)s
    ORDER BY p.ingest_time DESC
    LIMIT 1
) AS known ON true
WHERE (known.value_double, known.value_json) IS DISTINCT FROM (s.value_double, s.value_json)
ORDER BY s.series_id, s.event_time, s.ingest_time DESC
ON CONFLICT DO NOTHING;

-- name: keep_contradictions
-- Keep of what is staged only what contradicts a value that was stored before this write.
DELETE FROM pg_temp.feature_stage AS s
USING mlops.feature_points AS p
WHERE p.series_id = s.series_id
    AND p.event_time = s.event_time
    AND p.ingest_time = s.ingest_time
    AND (
        p.write_id = %(write_id)s
        OR (p.value_double, p.value_json) IS NOT DISTINCT FROM (s.value_double, s.value_json)
    );

-- name: contradictions
-- Which staged values differ from what is stored under their key?
SELECT
    count(*) OVER () AS total,
    i.entity_key,
    i.feature_name,
    i.feature_version,
    p.event_time,
    p.ingest_time,
    coalesce(to_jsonb(p.value_double), p.value_json) AS stored,
    coalesce(to_jsonb(s.value_double), s.value_json) AS given
FROM pg_temp.feature_stage AS s
JOIN mlops.feature_points AS p
    ON p.series_id = s.series_id
    AND p.event_time = s.event_time
    AND p.ingest_time = coalesce(s.ingest_time, %(stamp)s)
JOIN mlops.feature_series AS i ON i.series_id = s.series_id
WHERE (p.value_double, p.value_json) IS DISTINCT FROM (s.value_double, s.value_json)
    AND (NOT %(own)s OR p.write_id = %(write_id)s)
ORDER BY i.entity_key, i.feature_name, p.event_time, p.ingest_time
LIMIT 10;

-- name: clock
-- What time is it on the server?
SELECT clock_timestamp();

-- name: oldest_announced
-- From which second on may an unfinished write still bring points?
SELECT to_timestamp(min(objid::bigint) + 1577836800)
FROM pg_locks
WHERE locktype = 'advisory'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND classid = 718281828
    AND objsubid = 2;

-- name: latest
-- What is the newest value of every series of these entities, as known at as_of (default: now)?
-- The columns are in the order of FeatureValue.
SELECT
    s.entity_key,
    s.feature_name,
    s.feature_version,
    p.event_time,
    p.value_double,
    p.value_json,
    moment.as_of,
    p.ingest_time,
    w.producer,
    w.producer_version,
    w.run_id,
    w.assumed_lag
FROM mlops.feature_series AS s
CROSS JOIN (SELECT coalesce(%(as_of)s::timestamptz, statement_timestamp()) AS as_of) AS moment
CROSS JOIN LATERAL (
    SELECT *
    FROM mlops.feature_points AS p
    WHERE p.series_id = s.series_id
        AND p.event_time <= coalesce(%(as_of)s::timestamptz, statement_timestamp())
        AND p.ingest_time <= coalesce(%(as_of)s::timestamptz, statement_timestamp())
    ORDER BY p.event_time DESC, p.ingest_time DESC
    LIMIT 1
) AS p
JOIN mlops.feature_writes AS w ON w.write_id = p.write_id
WHERE s.entity_key = ANY (%(entities)s::text[])
    AND (%(features)s::text[] IS NULL OR s.feature_name = ANY (%(features)s::text[]));

-- name: series_of
-- Which series have these entities and features, by position? A version of 0 means any.
SELECT
    array_agg(e.position::integer),
    array_agg(f.position::integer),
    array_agg(s.feature_version),
    array_agg(s.series_id)
FROM mlops.feature_series AS s
JOIN unnest(%(entities)s::text[]) WITH ORDINALITY AS e (name, position) ON e.name = s.entity_key
JOIN unnest(%(features)s::text[], %(versions)s::integer[]) WITH ORDINALITY
    AS f (name, version, position)
    ON f.name = s.feature_name AND f.version IN (0, s.feature_version);

-- name: feature_names
-- Which versions of which features have ever been written?
SELECT DISTINCT feature_name, feature_version
FROM mlops.feature_series
ORDER BY feature_name, feature_version;

-- name: count_points
-- How many points lie in this stretch of these series, and when is the first?
SELECT count(*), min(event_time) FROM mlops.feature_points
WHERE series_id = ANY (%(series)s)
    AND event_time BETWEEN %(first)s::timestamptz AND %(last)s::timestamptz;

-- name: stream_series
-- All that a training set needs of each series, in the order of its key, as three arrays.
SELECT wanted.position::integer, found.*
FROM unnest(%(series)s::integer[]) WITH ORDINALITY AS wanted (series_id, position)
CROSS JOIN LATERAL (
    SELECT
        array_agg(sorted.event_time) AS event_times,
        array_agg(sorted.ingest_time) AS ingest_times,
        array_agg(coalesce(sorted.value_double, 'NaN')) AS numbers,
        bool_or(sorted.value_double IS NULL) AS has_json,
        NULL::bigint[] AS writes
    FROM (
        SELECT p.event_time, p.ingest_time, p.value_double
        FROM mlops.feature_points AS p
        WHERE p.series_id = wanted.series_id
            AND p.event_time BETWEEN %(first)s::timestamptz AND %(last)s::timestamptz
            AND p.ingest_time <= %(last_ingest)s::timestamptz
        ORDER BY p.event_time, p.ingest_time
    ) AS sorted
) AS found
WHERE found.event_times IS NOT NULL;

-- name: stream_series_writes
-- The same with the write of each point, and only what was written by a time. The index does not
-- have it, so this reads the table.
SELECT wanted.position::integer, found.*
FROM unnest(%(series)s::integer[]) WITH ORDINALITY AS wanted (series_id, position)
CROSS JOIN LATERAL (
    SELECT
        array_agg(sorted.event_time) AS event_times,
        array_agg(sorted.ingest_time) AS ingest_times,
        array_agg(coalesce(sorted.value_double, 'NaN')) AS numbers,
        bool_or(sorted.value_double IS NULL) AS has_json,
        array_agg(sorted.write_id) AS writes
    FROM (
        SELECT p.event_time, p.ingest_time, p.value_double, p.write_id
        FROM mlops.feature_points AS p
        WHERE p.series_id = wanted.series_id
            AND p.event_time BETWEEN %(first)s::timestamptz AND %(last)s::timestamptz
            AND p.ingest_time <= %(last_ingest)s::timestamptz
            AND (
                %(written_by)s::timestamptz IS NULL
                OR p.write_id NOT IN (
                    SELECT w.write_id FROM mlops.feature_writes AS w
                    WHERE w.written_at > %(written_by)s
                )
            )
        ORDER BY p.event_time, p.ingest_time
    ) AS sorted
) AS found
WHERE found.event_times IS NOT NULL;

-- name: recent_points
-- Which points of any of an entity's series happened shortly before an as_of and were known at it?
-- By position of the as_of; what wins is for the caller to find out.
WITH entities AS MATERIALIZED (
    SELECT e.entity, array_agg(e.series_id ORDER BY e.series_id) AS series
    FROM unnest(%(series)s::integer[], %(entity)s::integer[]) AS e (series_id, entity)
    GROUP BY e.entity
)
SELECT
    array_agg(asked.position::integer),
    array_agg(p.series_id),
    array_agg(p.event_time),
    array_agg(p.ingest_time),
    array_agg(coalesce(p.value_double, 'NaN')),
    array_agg((p.value_double IS NULL)::integer)
FROM unnest(%(asked)s::integer[], %(as_of)s::timestamptz[]) WITH ORDINALITY
    AS asked (entity, as_of, position)
JOIN entities AS e ON e.entity = asked.entity
CROSS JOIN LATERAL (
    SELECT p.series_id, p.event_time, p.ingest_time, p.value_double
    FROM mlops.feature_points AS p
    WHERE p.series_id = ANY (e.series)
        AND p.event_time <= asked.as_of
        AND p.event_time >= asked.as_of - %(lookback)s::interval
        AND p.ingest_time <= asked.as_of
    OFFSET 0
) AS p;

-- name: lookup_points
-- Which point wins at each (series, as_of), by position?
SELECT
    array_agg(asked.position::integer),
    array_agg(p.event_time),
    array_agg(p.ingest_time),
    array_agg(coalesce(p.value_double, 'NaN')),
    array_agg((p.value_double IS NULL)::integer),
    NULL::bigint[]
FROM unnest(%(series)s::integer[], %(as_of)s::timestamptz[]) WITH ORDINALITY
    AS asked (series_id, as_of, position)
CROSS JOIN LATERAL (
    SELECT p.event_time, p.ingest_time, p.value_double
    FROM mlops.feature_points AS p
    WHERE p.series_id = asked.series_id
        AND p.event_time <= asked.as_of
        AND p.ingest_time <= asked.as_of
        AND p.event_time >= coalesce(asked.as_of - %(max_age)s::interval, '-infinity')
    ORDER BY p.event_time DESC, p.ingest_time DESC
    LIMIT 1
) AS p;

-- name: lookup_points_writes
-- The same with the write of each point, and only what was written by a time; reads the table, too.
SELECT
    array_agg(asked.position::integer),
    array_agg(p.event_time),
    array_agg(p.ingest_time),
    array_agg(coalesce(p.value_double, 'NaN')),
    array_agg((p.value_double IS NULL)::integer),
    array_agg(p.write_id)
FROM unnest(%(series)s::integer[], %(as_of)s::timestamptz[]) WITH ORDINALITY
    AS asked (series_id, as_of, position)
CROSS JOIN LATERAL (
    SELECT p.event_time, p.ingest_time, p.value_double, p.write_id
    FROM mlops.feature_points AS p
    WHERE p.series_id = asked.series_id
        AND p.event_time <= asked.as_of
        AND p.ingest_time <= asked.as_of
        AND p.event_time >= coalesce(asked.as_of - %(max_age)s::interval, '-infinity')
        AND (
            %(written_by)s::timestamptz IS NULL
            OR p.write_id NOT IN (
                SELECT w.write_id FROM mlops.feature_writes AS w
                WHERE w.written_at > %(written_by)s
            )
        )
    ORDER BY p.event_time DESC, p.ingest_time DESC
    LIMIT 1
) AS p;

-- name: structures
-- The JSON values of these points, by position; numbers have none.
SELECT asked.position::integer, p.value_json
FROM unnest(%(series)s::integer[], %(event)s::timestamptz[], %(ingest)s::timestamptz[])
    WITH ORDINALITY AS asked (series_id, event_time, ingest_time, position)
JOIN mlops.feature_points AS p
    ON p.series_id = asked.series_id
    AND p.event_time = asked.event_time
    AND p.ingest_time = asked.ingest_time
WHERE p.value_json IS NOT NULL;

-- name: series_with_points
-- Which of these series hold any point at all?
SELECT array_agg(asked.series_id)
FROM unnest(%(series)s::integer[]) AS asked (series_id)
WHERE EXISTS (SELECT FROM mlops.feature_points AS p WHERE p.series_id = asked.series_id);

-- name: writes
-- Who made these writes?
SELECT write_id, written_at, producer, producer_version, run_id, assumed_lag
FROM mlops.feature_writes
WHERE write_id = ANY (%(writes)s);

-- name: written_late
-- Did a write after this time bring points that claim to have been known before it?
SELECT EXISTS (
    SELECT FROM mlops.feature_writes
    WHERE written_at > %(written_by)s AND first_ingest <= %(last)s
);

-- name: lock_definitions
-- Be the only one who registers a view.
LOCK TABLE mlops.feature_views IN SHARE ROW EXCLUSIVE MODE;

-- name: insert_view
-- Register a view.
INSERT INTO mlops.feature_views
    (name, version, description, entity_kind, owner, max_staleness, max_sessions, calendar,
    code_reference)
VALUES (
    %(name)s, %(version)s, %(description)s, %(entity_kind)s, %(owner)s, %(max_staleness)s,
    %(max_sessions)s, %(calendar)s, %(code_reference)s
);

-- name: insert_definitions
-- Register the features of a view.
INSERT INTO mlops.feature_definitions (view_name, version, feature_name, value_type, ordinal)
SELECT %(name)s, %(version)s, f.name, f.value_type, f.ordinal
FROM unnest(%(features)s::text[], %(types)s::text[]) WITH ORDINALITY AS f (name, value_type, ordinal);

-- name: views
-- Which views are registered, with which features?
SELECT
    v.name,
    v.version,
    v.description,
    v.entity_kind,
    v.owner,
    v.max_staleness,
    v.max_sessions,
    v.calendar,
    v.code_reference,
    (
        SELECT json_object_agg(d.feature_name, d.value_type ORDER BY d.ordinal)
        FROM mlops.feature_definitions AS d
        WHERE d.view_name = v.name AND d.version = v.version
    ) AS features
FROM mlops.feature_views AS v
ORDER BY v.name, v.version;

-- name: definitions_of
-- How are these features defined? Of the unknown ones without a definition: what does a stored value
-- look like, with a version of NULL? One value is enough, because a feature never mixes texts with numbers; NaN
-- is skipped, because it has any type. The nested LATERALs keep the planner from reading all points.
SELECT feature_name, version, value_type
FROM mlops.feature_definitions
WHERE feature_name = ANY (%(features)s::text[])
UNION ALL
SELECT f.name, NULL, stored.kind
FROM unnest(%(unknown)s::text[]) AS f (name)
CROSS JOIN LATERAL (
    SELECT point.kind
    FROM mlops.feature_series AS s
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN p.value_json IS NULL THEN 'number'
            WHEN jsonb_typeof(p.value_json) = 'string' THEN 'category'
            ELSE 'structure'
        END AS kind
        FROM mlops.feature_points AS p
        WHERE p.series_id = s.series_id AND p.value_double IS DISTINCT FROM 'NaN'
        LIMIT 1
    ) AS point
    WHERE s.feature_name = f.name AND s.feature_version = %(version)s
    LIMIT 1
) AS stored
WHERE NOT EXISTS (
    SELECT FROM mlops.feature_definitions AS d WHERE d.feature_name = f.name
);

-- name: add_categories
-- Record texts of a categorical feature that are new. The anti-join spares the index the work of
-- texts that are known, which are nearly all.
INSERT INTO mlops.feature_categories (feature_name, feature_version, category)
SELECT %(feature)s, %(version)s, new.category
FROM unnest(%(categories)s::text[]) AS new (category)
WHERE NOT EXISTS (
    SELECT FROM mlops.feature_categories AS known
    WHERE known.feature_name = %(feature)s
        AND known.feature_version = %(version)s
        AND known.category = new.category
)
ORDER BY new.category COLLATE "C"
ON CONFLICT DO NOTHING;

-- name: record_universe
-- Record in which intervals entities are part of a universe. The same interval again changes nothing.
INSERT INTO mlops.feature_universes AS stored (universe, entity_key, valid_from, valid_to)
SELECT %(universe)s, new.entity_key, coalesce(new.valid_from, '-infinity'), new.valid_to
FROM unnest(%(entities)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
    AS new (entity_key, valid_from, valid_to)
ON CONFLICT (universe, entity_key, valid_from) DO UPDATE
SET valid_to = excluded.valid_to, recorded_at = clock_timestamp(), recorded_by = session_user
WHERE stored.valid_to IS DISTINCT FROM excluded.valid_to;

-- name: universe
-- The intervals of a universe (of all, if none is named), in the order of their start.
SELECT entity_key, CASE WHEN isfinite(valid_from) THEN valid_from END, valid_to
FROM mlops.feature_universes
WHERE %(universe)s::text IS NULL OR universe = %(universe)s
ORDER BY entity_key, valid_from;

-- name: universes
-- Which universes are recorded?
SELECT DISTINCT universe FROM mlops.feature_universes ORDER BY universe;

-- name: universes_exist
-- Has the schema a table of universes? An older one has not.
SELECT to_regclass('mlops.feature_universes') IS NOT NULL;

-- name: count_categories
-- How many distinct texts does this feature have?
SELECT count(*) FROM mlops.feature_categories
WHERE feature_name = %(feature)s AND feature_version = %(version)s;

-- name: one_snapshot
-- Let everything that this transaction reads be of one moment.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: features_of_entities
-- Which features has any of these entities?
SELECT DISTINCT feature_name
FROM mlops.feature_series
WHERE entity_key = ANY (%(entities)s)
ORDER BY feature_name;

-- name: entities_of_features
-- Which entities have any of these features?
SELECT DISTINCT entity_key FROM mlops.feature_series
WHERE feature_name = ANY (%(features)s)
ORDER BY entity_key;

-- name: history
-- What was ever believed of one feature of one entity, and who said so when?
SELECT
    s.feature_version,
    p.event_time,
    p.ingest_time,
    row_number() OVER revisions AS revision,
    p.value_double AS value,
    p.value_json AS value_json,
    lag(p.value_double) OVER revisions AS previous_value,
    lag(p.value_json) OVER revisions AS previous_value_json,
    w.written_at,
    w.producer,
    w.producer_version,
    w.run_id,
    w.assumed_lag
FROM mlops.feature_series AS s
JOIN mlops.feature_points AS p USING (series_id)
JOIN mlops.feature_writes AS w USING (write_id)
WHERE s.entity_key = %(entity)s
    AND s.feature_name = %(feature)s
    AND (%(version)s::integer IS NULL OR s.feature_version = %(version)s)
WINDOW revisions AS (PARTITION BY p.series_id, p.event_time ORDER BY p.ingest_time)
ORDER BY s.feature_version, p.event_time, p.ingest_time;

-- name: diff
-- What became known after one moment and by another? A point becomes known at the later of its two
-- times; of several revisions in between the last one counts.
SELECT
    s.entity_key,
    s.feature_name,
    s.feature_version,
    CASE WHEN before.ingest_time IS NULL THEN 'new' ELSE 'revised' END AS change,
    p.event_time,
    p.ingest_time,
    p.value_double AS value,
    p.value_json AS value_json,
    before.value_double AS previous_value,
    before.value_json AS previous_value_json,
    w.producer,
    w.run_id,
    w.assumed_lag
FROM (
    SELECT DISTINCT ON (p.series_id, p.event_time) p.*
    FROM mlops.feature_points AS p
    WHERE p.event_time <= %(later)s
        AND p.ingest_time <= %(later)s
        AND (p.ingest_time > %(earlier)s OR p.event_time > %(earlier)s)
        AND (
            (%(entities)s::text[] IS NULL AND %(features)s::text[] IS NULL)
            OR p.series_id IN (
                SELECT i.series_id
                FROM mlops.feature_series AS i
                WHERE (%(entities)s::text[] IS NULL OR i.entity_key = ANY (%(entities)s::text[]))
                    AND (%(features)s::text[] IS NULL OR i.feature_name = ANY (%(features)s::text[]))
            )
        )
    ORDER BY p.series_id, p.event_time, p.ingest_time DESC
) AS p
JOIN mlops.feature_series AS s USING (series_id)
JOIN mlops.feature_writes AS w USING (write_id)
LEFT JOIN LATERAL (
    SELECT b.ingest_time, b.value_double, b.value_json
    FROM mlops.feature_points AS b
    WHERE b.series_id = p.series_id
        AND b.event_time = p.event_time
        AND b.event_time <= %(earlier)s
        AND b.ingest_time <= %(earlier)s
    ORDER BY b.ingest_time DESC
    LIMIT 1
) AS before ON true
ORDER BY s.entity_key, s.feature_name, s.feature_version, p.event_time;

-- name: assumed_writes
-- Which writes computed their ingest times from an assumed lag?
SELECT write_id FROM mlops.feature_writes WHERE assumed_lag IS NOT NULL;

-- name: list_features
-- Which features are there, of how many entities, from when to when, and how are they defined?
SELECT
    s.feature_name,
    s.feature_version,
    count(*) AS entities,
    min(span.first_event) AS first_event,
    max(span.last_event) AS last_event,
    d.view_name,
    d.value_type
FROM mlops.feature_series AS s
CROSS JOIN LATERAL (
    SELECT
        (
            SELECT p.event_time FROM mlops.feature_points AS p
            WHERE p.series_id = s.series_id ORDER BY p.event_time LIMIT 1
        ) AS first_event,
        (
            SELECT p.event_time FROM mlops.feature_points AS p
            WHERE p.series_id = s.series_id ORDER BY p.event_time DESC LIMIT 1
        ) AS last_event
) AS span
LEFT JOIN mlops.feature_definitions AS d
    ON d.feature_name = s.feature_name AND d.version = s.feature_version
WHERE span.first_event IS NOT NULL
GROUP BY s.feature_name, s.feature_version, d.view_name, d.value_type
ORDER BY s.feature_name, s.feature_version;

-- name: lineage
-- Who wrote a feature: which producers, code versions and runs, when, and on what assumption?
SELECT
    s.feature_version,
    w.producer,
    w.producer_version,
    w.run_id,
    w.assumed_lag,
    count(*) AS points,
    count(DISTINCT w.write_id) AS writes,
    min(w.written_at) AS first_written,
    max(w.written_at) AS last_written,
    min(p.event_time) AS first_event,
    max(p.event_time) AS last_event
FROM mlops.feature_series AS s
JOIN mlops.feature_points AS p USING (series_id)
JOIN mlops.feature_writes AS w USING (write_id)
WHERE s.feature_name = %(feature)s
    AND (%(version)s::integer IS NULL OR s.feature_version = %(version)s)
GROUP BY s.feature_version, w.producer, w.producer_version, w.run_id, w.assumed_lag
ORDER BY s.feature_version, min(w.written_at);

-- name: exists
-- Is there a feature store in this database?
SELECT to_regclass('mlops.feature_points') IS NOT NULL;

-- name: sort_in_memory
-- The points of many features are sorted into features at once.
SET LOCAL work_mem = '256MB';

-- name: hash_entities
-- Until this transaction ends, join the points with many entities by a hash table. While a table is
-- new, the planner expects one point, and would look for each among all entities in turn.
SET LOCAL enable_nestloop = off;

-- name: points_of_features
-- What was written of each feature in a time, and known by its end? One row a feature, arrays in no
-- order. A text is -Infinity among the values, which no number is, and stands in `texts`, in the order
-- of these; NULL where there is none. The bound on ingest_time lets the rows be found where they lie,
-- in order of writing.
SELECT
    s.feature_name, s.feature_version,
    array_agg(coalesce(e.number, -s.series_id)) AS entities,
    array_agg(p.event_time) AS events,
    array_agg(p.ingest_time) AS ingests,
    array_agg(coalesce(p.value_double, '-Infinity')) AS values,
    array_agg(p.value_json #>> '{}') FILTER (WHERE p.value_double IS NULL) AS texts
FROM mlops.feature_points AS p
JOIN mlops.feature_series AS s USING (series_id)
LEFT JOIN unnest(%(entities)s::text[], %(numbers)s::integer[]) AS e (entity_key, number)
    USING (entity_key)
WHERE p.event_time > %(after)s AND p.event_time <= %(until)s
    AND p.ingest_time > %(after)s::timestamptz - %(foreknowledge)s
    AND p.ingest_time <= %(known_by)s
    AND (p.value_double IS NOT NULL OR jsonb_typeof(p.value_json) = 'string')
    AND (%(features)s::text[] IS NULL OR s.feature_name = ANY (%(features)s))
    AND (%(others)s OR e.number IS NOT NULL)
GROUP BY s.feature_name, s.feature_version
ORDER BY s.feature_name, s.feature_version;
