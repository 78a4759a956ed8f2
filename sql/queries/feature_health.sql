-- name: clock
-- What time is it on the server?
SELECT clock_timestamp();

-- name: freshness
-- What is the newest value of each (entity, feature) that is known at as_of, and how old may it be?
-- Of several versions the newest that has a value counts.
SELECT DISTINCT ON (s.feature_name, s.entity_key)
    s.series_id,
    s.entity_key,
    s.feature_name,
    s.feature_version,
    v.name AS view,
    v.owner,
    coalesce(v.max_staleness, make_interval(days => v.max_sessions)) AS max_staleness,
    v.calendar,
    p.event_time,
    p.ingest_time
FROM mlops.feature_series AS s
LEFT JOIN mlops.feature_definitions AS d
    ON d.feature_name = s.feature_name AND d.version = s.feature_version
LEFT JOIN mlops.feature_views AS v ON v.name = d.view_name AND v.version = d.version
LEFT JOIN LATERAL (
    SELECT p.event_time, p.ingest_time
    FROM mlops.feature_points AS p
    WHERE p.series_id = s.series_id
        AND p.event_time <= %(as_of)s::timestamptz
        AND p.ingest_time <= %(as_of)s::timestamptz
    ORDER BY p.event_time DESC, p.ingest_time DESC
    LIMIT 1
) AS p ON true
WHERE (%(features)s::text[] IS NULL OR s.feature_name = ANY (%(features)s::text[]))
    AND (%(entities)s::text[] IS NULL OR s.entity_key = ANY (%(entities)s::text[]))
ORDER BY s.feature_name, s.entity_key, (p.event_time IS NULL), s.feature_version DESC;

-- name: never_written
-- Which features are defined but have no value at all?
SELECT DISTINCT ON (d.feature_name)
    d.feature_name, d.version AS feature_version, v.name AS view, v.owner,
    coalesce(v.max_staleness, make_interval(days => v.max_sessions)) AS max_staleness
FROM mlops.feature_definitions AS d
JOIN mlops.feature_views AS v ON v.name = d.view_name AND v.version = d.version
WHERE (%(features)s::text[] IS NULL OR d.feature_name = ANY (%(features)s::text[]))
    AND NOT EXISTS (
        SELECT FROM mlops.feature_series AS s WHERE s.feature_name = d.feature_name
    )
ORDER BY d.feature_name, d.version DESC;

-- name: sessions
-- What did each feature look like on each day, by the revisions known at as_of?
WITH known AS (
    SELECT DISTINCT ON (p.series_id, p.event_time)
        p.series_id,
        (p.event_time AT TIME ZONE %(zone)s)::date AS session,
        p.value_double AS value
    FROM mlops.feature_points AS p
    WHERE p.series_id = ANY (%(series)s)
        AND p.event_time BETWEEN %(first)s::timestamptz AND %(as_of)s::timestamptz
        AND p.ingest_time <= %(as_of)s::timestamptz
    ORDER BY p.series_id, p.event_time, p.ingest_time DESC
)
SELECT
    s.feature_name,
    s.feature_version,
    k.session,
    count(DISTINCT k.series_id) AS entities,
    count(*) AS n,
    count(*) FILTER (WHERE k.value = 'NaN') AS undefined,
    count(*) FILTER (WHERE k.value IS NULL) AS structures,
    avg(k.value) FILTER (WHERE k.value <> 'NaN') AS mean,
    stddev_samp(k.value) FILTER (WHERE k.value <> 'NaN') AS sd,
    min(k.value) FILTER (WHERE k.value <> 'NaN') AS min,
    max(k.value) FILTER (WHERE k.value <> 'NaN') AS max
FROM known AS k
JOIN mlops.feature_series AS s USING (series_id)
GROUP BY s.feature_name, s.feature_version, k.session
ORDER BY s.feature_name, s.feature_version, k.session;

-- name: gaps
-- On which of these days has a series no value, although it has begun?
WITH begun AS (
    SELECT s.series_id, s.entity_key, s.feature_name, s.feature_version, first.day
    FROM mlops.feature_series AS s
    CROSS JOIN LATERAL (
        SELECT (p.event_time AT TIME ZONE %(zone)s)::date AS day
        FROM mlops.feature_points AS p
        WHERE p.series_id = s.series_id
        ORDER BY p.event_time, p.ingest_time
        LIMIT 1
    ) AS first
    WHERE s.series_id = ANY (%(series)s)
),
present AS (
    SELECT DISTINCT p.series_id, (p.event_time AT TIME ZONE %(zone)s)::date AS session
    FROM mlops.feature_points AS p
    WHERE p.series_id = ANY (%(series)s)
        AND p.event_time BETWEEN %(first)s::timestamptz AND %(as_of)s::timestamptz
        AND p.ingest_time <= %(as_of)s::timestamptz
)
SELECT
    b.entity_key,
    b.feature_name,
    b.feature_version,
    array_agg(expected.session ORDER BY expected.session) AS sessions
FROM begun AS b
JOIN unnest(%(features)s::text[], %(sessions)s::date[]) AS expected (feature_name, session)
    ON expected.feature_name = b.feature_name AND expected.session >= b.day
LEFT JOIN present AS p ON p.series_id = b.series_id AND p.session = expected.session
WHERE p.session IS NULL
GROUP BY b.entity_key, b.feature_name, b.feature_version
ORDER BY b.feature_name, b.entity_key;

-- name: write_lag
-- How long after the event does its first value become known? Assumed lags are counted, not measured.
WITH first_print AS (
    SELECT DISTINCT ON (p.series_id, p.event_time)
        p.series_id,
        extract(epoch FROM p.ingest_time - p.event_time)::double precision AS lag,
        p.write_id
    FROM mlops.feature_points AS p
    WHERE p.series_id = ANY (%(series)s)
        AND p.event_time BETWEEN %(first)s::timestamptz AND %(as_of)s::timestamptz
        AND p.ingest_time <= %(as_of)s::timestamptz
    ORDER BY p.series_id, p.event_time, p.ingest_time
)
SELECT
    s.feature_name,
    s.feature_version,
    count(*) AS n,
    (count(*) FILTER (WHERE w.assumed_lag IS NOT NULL))::double precision / count(*) AS assumed,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY f.lag) FILTER (WHERE w.assumed_lag IS NULL) AS p50,
    percentile_cont(0.9) WITHIN GROUP (ORDER BY f.lag) FILTER (WHERE w.assumed_lag IS NULL) AS p90,
    percentile_cont(0.99) WITHIN GROUP (ORDER BY f.lag) FILTER (WHERE w.assumed_lag IS NULL) AS p99,
    max(f.lag) FILTER (WHERE w.assumed_lag IS NULL) AS max
FROM first_print AS f
JOIN mlops.feature_series AS s USING (series_id)
JOIN mlops.feature_writes AS w USING (write_id)
GROUP BY s.feature_name, s.feature_version
ORDER BY s.feature_name, s.feature_version;
