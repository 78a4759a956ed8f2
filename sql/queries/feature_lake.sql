-- name: lock_lake
-- Are we the only exporter to this place?
SELECT pg_try_advisory_xact_lock(314159265, hashtext(%(place)s));

-- name: origin
-- When was the first of all writes? No two databases have it in common, to the microsecond.
SELECT min(written_at) FROM mlops.feature_writes WHERE written_at <= %(until)s;

-- name: all_series
-- Which series are there of these features (default: all)?
SELECT series_id, entity_key, feature_name, feature_version
FROM mlops.feature_series
WHERE %(features)s::text[] IS NULL OR feature_name = ANY (%(features)s::text[])
ORDER BY series_id;

-- name: settled_writes
-- Which writes were stamped after `since` and not after `until`, and is anything later there?
SELECT
    array_agg(write_id) FILTER (WHERE written_at <= %(until)s AND points > 0),
    coalesce(bool_or(written_at > %(until)s), false)
FROM mlops.feature_writes
WHERE written_at > %(since)s;

-- name: stream_new_points
-- The points of these writes that belong to these series, as three arrays each.
SELECT
    sorted.series_id,
    array_agg(sorted.event_time),
    array_agg(sorted.ingest_time),
    array_agg(coalesce(sorted.value_double, 'NaN')),
    bool_or(sorted.value_double IS NULL)
FROM (
    SELECT p.series_id, p.event_time, p.ingest_time, p.value_double
    FROM mlops.feature_points AS p
    WHERE p.write_id BETWEEN %(first)s AND %(last)s
        AND p.write_id = ANY (%(writes)s)
        AND p.series_id = ANY (%(series)s)
    ORDER BY p.series_id, p.event_time, p.ingest_time
) AS sorted
GROUP BY sorted.series_id;

-- name: json_texts
-- The JSON texts of these points, by position; numbers have none.
SELECT asked.position::integer, p.value_json::text
FROM unnest(%(series)s::integer[], %(event)s::timestamptz[], %(ingest)s::timestamptz[])
    WITH ORDINALITY AS asked (series_id, event_time, ingest_time, position)
JOIN mlops.feature_points AS p
    ON p.series_id = asked.series_id
    AND p.event_time = asked.event_time
    AND p.ingest_time = asked.ingest_time
WHERE p.value_json IS NOT NULL;
