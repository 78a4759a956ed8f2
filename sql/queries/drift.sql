-- name: lock_to_record
-- Wait while a monitor computes this strategy; recorders do not wait for each other.
SELECT pg_advisory_xact_lock_shared(hashtextextended('drift ' || %(strategy_id)s::text, 0));

-- name: lock_to_compute
-- Be the only one who computes or changes this strategy, until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('drift ' || %(strategy_id)s::text, 0));

-- name: stage_predictions
-- A place for the rows to arrive in.
CREATE TEMPORARY TABLE staged (
    entity_key text NOT NULL, session date NOT NULL, signal_time timestamptz NOT NULL,
    signal double precision NOT NULL, signal_id integer NOT NULL, entity_group text NOT NULL
) ON COMMIT DROP;

-- name: copy_predictions
-- Receive the rows.
COPY staged FROM STDIN (FORMAT binary);

-- name: add_entities
-- Number the names that are new.
INSERT INTO mlops.drift_entities (entity_key)
SELECT DISTINCT entity_key FROM staged ORDER BY entity_key
ON CONFLICT DO NOTHING;

-- name: entity_names
-- What are the names of these numbers?
SELECT entity_id, entity_key FROM mlops.drift_entities WHERE entity_id = ANY (%(entity_ids)s);

-- name: add_signals
-- Number the signals that are new.
INSERT INTO mlops.drift_signals (strategy_id, signal_name, horizon, model_name, model_version)
SELECT %(strategy_id)s, u.*
FROM unnest(
    %(names)s::text[], %(horizons)s::integer[], %(models)s::text[], %(versions)s::text[]
) AS u
ON CONFLICT DO NOTHING;

-- name: signals
-- What are the numbers of a strategy's signals?
SELECT signal_name, horizon, model_name, model_version, signal_id
FROM mlops.drift_signals WHERE strategy_id = %(strategy_id)s;

-- name: add_predictions
-- Keep the rows that are not there yet; a session that was computed without them is stale.
WITH added AS (
    INSERT INTO mlops.drift_prediction_points (
        signal_id, session, entity_id, signal_time, signal, entity_group
    )
    SELECT t.signal_id, t.session, e.entity_id, t.signal_time, t.signal, nullif(t.entity_group, '')
    FROM staged AS t
    JOIN mlops.drift_entities AS e USING (entity_key)
    ORDER BY t.signal_id, t.session, e.entity_id, t.signal_time
    ON CONFLICT DO NOTHING
    RETURNING session
), marked AS (
    INSERT INTO mlops.drift_stale (strategy_id, session, reason)
    SELECT r.strategy_id, r.session, 'predictions'
    FROM (SELECT DISTINCT session FROM added) AS a JOIN mlops.drift_runs AS r USING (session)
    WHERE r.strategy_id = %(strategy_id)s
)
SELECT count(*) FROM added;

-- name: contradicted_predictions
-- Which rows have another signal than the stored one of the same key?
-- (OFFSET 0 keeps one lookup by key per row in every plan: fresh tables have no statistics.)
SELECT t.entity_key, s.signal_name, t.signal_time, t.signal, p.signal AS kept
FROM staged AS t
JOIN mlops.drift_entities AS e USING (entity_key)
JOIN mlops.drift_signals AS s USING (signal_id)
CROSS JOIN LATERAL (
    SELECT p.signal FROM mlops.drift_prediction_points AS p
    WHERE p.signal_id = t.signal_id AND p.session = t.session AND p.entity_id = e.entity_id
        AND p.signal_time = t.signal_time
    OFFSET 0
) AS p
WHERE p.signal IS DISTINCT FROM t.signal
ORDER BY t.entity_key, t.signal_time
LIMIT 11;

-- name: analyze_staged
-- Give the planner the number of staged rows.
ANALYZE staged;

-- name: drop_staged
-- Let the next recording in the same transaction begin afresh.
DROP TABLE staged;

-- name: stage_returns
-- A place for the rows to arrive in.
CREATE TEMPORARY TABLE staged (
    entity_key text NOT NULL, session date NOT NULL, horizon integer NOT NULL,
    known_at timestamptz, value double precision NOT NULL
) ON COMMIT DROP;

-- name: copy_returns
-- Receive the rows.
COPY staged FROM STDIN (FORMAT binary);

-- name: add_returns
-- Store new rows: a row with known_at, unless it exists; a row without, where it differs from the
-- latest value. A session computed without them is stale.
WITH latest AS (
    SELECT DISTINCT ON (r.session, r.horizon, r.entity_id)
        r.session, r.horizon, r.entity_id, r.value
    FROM mlops.drift_return_points AS r
    WHERE r.strategy_id = %(strategy_id)s
        AND r.session BETWEEN (SELECT min(session) FROM staged)
            AND (SELECT max(session) FROM staged)
    ORDER BY r.session, r.horizon, r.entity_id, r.known_at DESC
), added AS (
    INSERT INTO mlops.drift_return_points (
        strategy_id, session, horizon, entity_id, known_at, value
    )
    SELECT
        %(strategy_id)s, t.session, t.horizon, e.entity_id,
        coalesce(t.known_at, transaction_timestamp()), t.value
    FROM staged AS t
    JOIN mlops.drift_entities AS e USING (entity_key)
    LEFT JOIN latest AS l USING (session, horizon, entity_id)
    WHERE t.known_at IS NOT NULL OR l.value IS DISTINCT FROM t.value
    ORDER BY t.session, t.horizon, e.entity_id
    ON CONFLICT DO NOTHING
    RETURNING session
), marked AS (
    INSERT INTO mlops.drift_stale (strategy_id, session, reason)
    SELECT r.strategy_id, r.session, 'returns'
    FROM (SELECT DISTINCT session FROM added) AS a JOIN mlops.drift_runs AS r USING (session)
    WHERE r.strategy_id = %(strategy_id)s
)
SELECT count(*) FROM added;

-- name: contradicted_returns
-- Which rows have another return than the stored one of the same key?
SELECT
    t.entity_key, t.session, t.horizon,
    coalesce(t.known_at, transaction_timestamp()) AS known_at, t.value, r.value AS kept
FROM staged AS t
JOIN mlops.drift_entities AS e USING (entity_key)
CROSS JOIN LATERAL (
    SELECT r.value FROM mlops.drift_return_points AS r
    WHERE r.strategy_id = %(strategy_id)s AND r.session = t.session AND r.horizon = t.horizon
        AND r.entity_id = e.entity_id
        AND r.known_at = coalesce(t.known_at, transaction_timestamp())
    OFFSET 0
) AS r
WHERE r.value IS DISTINCT FROM t.value
ORDER BY t.session, t.entity_key
LIMIT 11;

-- name: revised_returns
-- How many returns of sessions before one were revised in a period, and of how many sessions?
SELECT 'returns' AS kind, count(*), count(DISTINCT r.session)
FROM mlops.drift_return_points AS r
WHERE r.strategy_id = %(strategy_id)s AND r.session < %(session)s
    AND r.known_at >= %(start)s AND r.known_at < %(end)s
    AND EXISTS (
        SELECT FROM mlops.drift_return_points AS o
        WHERE o.strategy_id = r.strategy_id AND o.session = r.session AND o.horizon = r.horizon
            AND o.entity_id = r.entity_id AND o.known_at < r.known_at
    )
UNION ALL
SELECT 'strategy returns', count(*), count(DISTINCT r.session)
FROM mlops.drift_strategy_returns AS r
WHERE r.strategy_id = %(strategy_id)s AND r.session < %(session)s
    AND r.known_at >= %(start)s AND r.known_at < %(end)s
    AND EXISTS (
        SELECT FROM mlops.drift_strategy_returns AS o
        WHERE o.strategy_id = r.strategy_id AND o.session = r.session AND o.known_at < r.known_at
    );

-- name: stage_strategy_returns
-- A place for the rows to arrive in.
CREATE TEMPORARY TABLE staged (
    session date NOT NULL, known_at timestamptz, value double precision NOT NULL
) ON COMMIT DROP;

-- name: copy_strategy_returns
-- Receive the rows.
COPY staged FROM STDIN (FORMAT binary);

-- name: add_strategy_returns
-- Keep what is new, as for returns.
WITH latest AS (
    SELECT DISTINCT ON (r.session) r.session, r.value
    FROM mlops.drift_strategy_returns AS r
    WHERE r.strategy_id = %(strategy_id)s
    ORDER BY r.session, r.known_at DESC
), added AS (
    INSERT INTO mlops.drift_strategy_returns (strategy_id, session, known_at, value)
    SELECT %(strategy_id)s, t.session, coalesce(t.known_at, transaction_timestamp()), t.value
    FROM staged AS t
    LEFT JOIN latest AS l USING (session)
    WHERE t.known_at IS NOT NULL OR l.value IS DISTINCT FROM t.value
    ON CONFLICT DO NOTHING
    RETURNING session
), marked AS (
    INSERT INTO mlops.drift_stale (strategy_id, session, reason)
    SELECT DISTINCT r.strategy_id, r.session, 'strategy returns'
    FROM added JOIN mlops.drift_runs AS r USING (session)
    WHERE r.strategy_id = %(strategy_id)s
)
SELECT count(*) FROM added;

-- name: contradicted_strategy_returns
-- Which rows have another return than the stored one of the same key?
SELECT t.session, coalesce(t.known_at, transaction_timestamp()) AS known_at, t.value, r.value AS kept
FROM staged AS t
JOIN mlops.drift_strategy_returns AS r
    ON r.strategy_id = %(strategy_id)s AND r.session = t.session
        AND r.known_at = coalesce(t.known_at, transaction_timestamp())
WHERE r.value IS DISTINCT FROM t.value
ORDER BY t.session
LIMIT 11;

-- name: stage_values
-- A place for the values to arrive in.
CREATE TEMPORARY TABLE staged (
    session date NOT NULL, metric text NOT NULL, dimension text NOT NULL,
    value double precision, n integer NOT NULL, status text NOT NULL
) ON COMMIT DROP;

-- name: copy_values
-- Receive the values.
COPY staged FROM STDIN (FORMAT binary);

-- name: add_values
-- Store values that differ from the latest ones as the session's next revision; return these sessions.
-- What a session in `whole` had and no longer has is withdrawn. A sum added up in another order is
-- not a revision.
WITH known AS (
    SELECT l.session, l.metric, l.dimension, l.value, l.n, l.status
    FROM mlops.drift_latest AS l
    WHERE l.strategy_id = %(strategy_id)s
        AND l.session BETWEEN (SELECT min(session) FROM staged)
            AND (SELECT max(session) FROM staged)
), wanted AS (
    SELECT session, metric, dimension, value, n, status FROM staged
    UNION ALL
    SELECT k.session, k.metric, k.dimension, NULL, 0, 'withdrawn'
    FROM known AS k
    WHERE k.session = ANY (%(whole)s::date[]) AND NOT EXISTS (
        SELECT FROM staged AS t
        WHERE (t.session, t.metric, t.dimension) = (k.session, k.metric, k.dimension)
    )
), added AS (
    INSERT INTO mlops.drift_values (
        strategy_id, session, metric, dimension, revision, value, n, status
    )
    SELECT
        %(strategy_id)s, w.session, w.metric, w.dimension, coalesce(r.revision, 0) + 1,
        w.value, w.n, w.status
    FROM wanted AS w
    LEFT JOIN known AS k USING (session, metric, dimension)
    LEFT JOIN mlops.drift_runs AS r
        ON r.strategy_id = %(strategy_id)s AND r.session = w.session
    WHERE k.session IS NULL
        OR w.status <> k.status
        OR w.n <> k.n
        OR (w.value IS NULL) <> (k.value IS NULL)
        OR abs(w.value - k.value) > 1e-12 * greatest(1, abs(k.value))
    RETURNING session
)
SELECT DISTINCT session FROM added;

-- name: save_runs
-- Note which sessions are computed, on what, and which of them have a new revision.
INSERT INTO mlops.drift_runs AS r (
    strategy_id, session, revision, session_number, status, model_name, model_version, as_of, digest
)
SELECT
    %(strategy_id)s, u.session, CASE WHEN u.changed THEN 1 ELSE 0 END, u.session_number, u.status,
    u.model_name, u.model_version, u.as_of, u.digest
FROM unnest(
    %(sessions)s::date[], %(changed)s::boolean[], %(numbers)s::integer[], %(statuses)s::text[],
    %(model_names)s::text[], %(model_versions)s::text[], %(as_of)s::timestamptz[],
    %(digests)s::text[]
) AS u (session, changed, session_number, status, model_name, model_version, as_of, digest)
ON CONFLICT (strategy_id, session) DO UPDATE SET
    revision = r.revision + excluded.revision,
    status = excluded.status,
    model_name = excluded.model_name,
    model_version = excluded.model_version,
    as_of = excluded.as_of,
    digest = excluded.digest,
    computed_at = clock_timestamp();

-- name: revise_runs
-- Note that sessions computed earlier have a new revision.
UPDATE mlops.drift_runs SET revision = revision + 1, computed_at = clock_timestamp()
WHERE strategy_id = %(strategy_id)s AND session = ANY (%(sessions)s);

-- name: session_values
-- What is known of some sessions?
SELECT session, metric, dimension, value, n, status
FROM mlops.drift_latest
WHERE strategy_id = %(strategy_id)s AND session BETWEEN %(start)s AND %(end)s
    AND (%(metrics)s::text[] IS NULL OR metric = ANY (%(metrics)s))
    AND (%(dimensions)s::text[] IS NULL OR dimension = ANY (%(dimensions)s))
ORDER BY session, metric, dimension;

-- name: revised_values
-- What has changed in a session since a revision?
SELECT session, metric, dimension, value, n, status
FROM mlops.drift_latest
WHERE strategy_id = %(strategy_id)s AND session = %(session)s AND revision > %(since)s
ORDER BY metric, dimension;

-- name: runs
-- Which sessions are computed, between two dates?
SELECT session, revision, session_number, status, model_name, model_version, as_of, digest,
    computed_at, logged_revision, mlflow_run_id
FROM mlops.drift_runs
WHERE strategy_id = %(strategy_id)s AND session BETWEEN %(start)s AND %(end)s
ORDER BY session;

-- name: last_run
-- Which session was computed last, and which first?
SELECT max(session), min(session) FROM mlops.drift_runs WHERE strategy_id = %(strategy_id)s;

-- name: sessions_signalled
-- Which of some sessions have predictions?
SELECT u.session
FROM unnest(%(sessions)s::date[]) AS u (session)
WHERE EXISTS (
    SELECT FROM mlops.drift_prediction_points AS p
    WHERE p.session = u.session AND p.signal_id = ANY (ARRAY(
        SELECT signal_id FROM mlops.drift_signals WHERE strategy_id = %(strategy_id)s
    ))
);

-- name: names_signalled
-- Which names had a signal of a strategy in any of some sessions?
SELECT DISTINCT p.entity_id
FROM mlops.drift_prediction_points AS p
WHERE p.session = ANY (%(sessions)s::date[]) AND p.signal_id = ANY (ARRAY(
    SELECT signal_id FROM mlops.drift_signals WHERE strategy_id = %(strategy_id)s
));

-- name: stale_sessions
-- Which computed sessions have learned something since, and was it only returns?
SELECT session, bool_and(reason IN ('returns', 'strategy returns')) AS only_returns
FROM mlops.drift_stale
WHERE strategy_id = %(strategy_id)s
GROUP BY session
ORDER BY session;

-- name: stale_marks
-- Which sessions are marked at this moment? What is marked later was recorded later.
SELECT mark_id FROM mlops.drift_stale WHERE strategy_id = %(strategy_id)s;

-- name: clear_stale
-- They are recomputed.
DELETE FROM mlops.drift_stale
WHERE strategy_id = %(strategy_id)s AND session = ANY (%(sessions)s::date[])
    AND mark_id = ANY (%(marks)s::bigint[]);

-- name: strategy
-- What is known of a strategy?
SELECT calendar, first_session, settings FROM mlops.drift_strategies
WHERE strategy_id = %(strategy_id)s;

-- name: add_strategy
-- Remember a strategy.
INSERT INTO mlops.drift_strategies (strategy_id, calendar, settings)
VALUES (%(strategy_id)s, %(calendar)s, %(settings)s)
ON CONFLICT DO NOTHING;

-- name: change_calendar
-- Give a strategy another calendar, unless something is recorded of its sessions.
UPDATE mlops.drift_strategies SET calendar = %(calendar)s
WHERE strategy_id = %(strategy_id)s AND first_session IS NULL
    AND NOT EXISTS (SELECT FROM mlops.drift_signals WHERE strategy_id = %(strategy_id)s)
    AND NOT EXISTS (SELECT FROM mlops.drift_return_points WHERE strategy_id = %(strategy_id)s)
    AND NOT EXISTS (SELECT FROM mlops.drift_strategy_returns WHERE strategy_id = %(strategy_id)s)
    AND NOT EXISTS (SELECT FROM mlops.drift_runs WHERE strategy_id = %(strategy_id)s);

-- name: update_strategy
-- Remember how a strategy is watched now.
UPDATE mlops.drift_strategies SET settings = settings || %(settings)s
WHERE strategy_id = %(strategy_id)s AND NOT settings @> %(settings)s;

-- name: anchor_strategy
-- Count the strategy's sessions from here, unless an earlier one was computed.
UPDATE mlops.drift_strategies SET first_session = %(session)s
WHERE strategy_id = %(strategy_id)s AND (first_session IS NULL OR first_session > %(session)s);

-- name: renumber_runs
-- Give sessions the numbers that follow from the calendar and the first session.
UPDATE mlops.drift_runs AS r SET session_number = u.session_number
FROM unnest(%(sessions)s::date[], %(numbers)s::integer[]) AS u (session, session_number)
WHERE r.strategy_id = %(strategy_id)s AND r.session = u.session
    AND r.session_number <> u.session_number;

-- name: misnumbered_runs
-- Does MLflow have a session at another step than the session's number?
SELECT EXISTS (
    SELECT FROM mlops.drift_runs
    WHERE strategy_id = %(strategy_id)s AND logged_number <> session_number
);

-- name: logged_runs
-- Which sessions does MLflow have?
SELECT session, revision, session_number, status, model_name, model_version, as_of, digest,
    computed_at, logged_revision, mlflow_run_id
FROM mlops.drift_runs
WHERE strategy_id = %(strategy_id)s AND logged_revision IS NOT NULL
ORDER BY session;

-- name: series_renumbered
-- The new series run has every logged session at its number.
UPDATE mlops.drift_runs SET logged_number = session_number
WHERE strategy_id = %(strategy_id)s AND logged_revision IS NOT NULL;

-- name: strategies
-- Which strategies are watched?
SELECT strategy_id FROM mlops.drift_strategies ORDER BY strategy_id;

-- name: horizon
-- How far ahead does the strategy's primary signal look?
SELECT min(horizon) FROM mlops.drift_signals
WHERE strategy_id = %(strategy_id)s AND signal_name = %(signal)s
    AND (%(model)s = '' OR model_name = %(model)s);

-- name: session_signals
-- The signals of the strategy's models in a session. One row a signal, arrays in order of entity and
-- time; where a signal was said twice, the last counts.
SELECT
    s.signal_name, s.horizon, s.model_name, s.model_version, max(p.signal_time) AS signal_time,
    array_agg(p.entity_id ORDER BY p.entity_id, p.signal_time) AS entities,
    array_agg(p.signal ORDER BY p.entity_id, p.signal_time) AS signals,
    CASE WHEN bool_or(p.entity_group IS NOT NULL)
        THEN array_agg(coalesce(p.entity_group, '') ORDER BY p.entity_id, p.signal_time)
    END AS groups
FROM mlops.drift_prediction_points AS p
JOIN mlops.drift_signals AS s USING (signal_id)
WHERE s.strategy_id = %(strategy_id)s AND p.session = %(session)s
    AND p.signal_id = ANY (ARRAY(
        SELECT signal_id FROM mlops.drift_signals WHERE strategy_id = %(strategy_id)s
    ))
GROUP BY s.signal_id
ORDER BY s.signal_name, s.horizon, max(p.signal_time);

-- name: session_returns
-- What did the names return after a session? One row a horizon, arrays in order of entity and of when
-- each became known; the one known last counts.
SELECT
    horizon,
    array_agg(entity_id ORDER BY entity_id, known_at) AS entities,
    array_agg(value ORDER BY entity_id, known_at) AS returns
FROM mlops.drift_return_points
WHERE strategy_id = %(strategy_id)s AND session = %(session)s
GROUP BY horizon
ORDER BY horizon;

-- name: strategy_return_series
-- What did the strategy return, session by session, as known now?
SELECT DISTINCT ON (session) session, value
FROM mlops.drift_strategy_returns
WHERE strategy_id = %(strategy_id)s AND session <= %(end)s
ORDER BY session, known_at DESC;

-- name: references
-- Which windows were accepted?
SELECT reference_id, role, version, window_start, window_end, ic_mean, ic_sd, ic_n, accepted_at,
    accepted_by, reason, to_jsonb(w) ->> 'db_user' AS db_user
FROM mlops.drift_references AS w
WHERE strategy_id = %(strategy_id)s
ORDER BY role, version;

-- name: add_reference
-- Accept a window, as the next version of its role.
INSERT INTO mlops.drift_references (
    strategy_id, role, version, window_start, window_end, ic_mean, ic_sd, ic_n, accepted_by, reason
)
SELECT
    %(strategy_id)s, %(role)s, 1 + count(*), %(window_start)s, %(window_end)s, %(ic_mean)s,
    %(ic_sd)s, %(ic_n)s, coalesce(%(accepted_by)s, session_user), %(reason)s
FROM mlops.drift_references
WHERE strategy_id = %(strategy_id)s AND role = %(role)s
RETURNING reference_id;

-- name: drop_provisional
-- An accepted window replaces the provisional ones.
DELETE FROM mlops.drift_references
WHERE strategy_id = %(strategy_id)s AND role = 'provisional';

-- name: add_distribution
-- Keep what one feature looked like in an accepted window.
INSERT INTO mlops.drift_reference_distributions (reference_id, dimension, distribution)
VALUES (%(reference_id)s, %(dimension)s, %(distribution)s);

-- name: distributions
-- What did each feature look like in an accepted window?
SELECT dimension, distribution::text FROM mlops.drift_reference_distributions
WHERE reference_id = %(reference_id)s
ORDER BY dimension;

-- name: mark_all_stale
-- Have the sessions after an accepted window computed again.
INSERT INTO mlops.drift_stale (strategy_id, session, reason)
SELECT strategy_id, session, 'reference'
FROM mlops.drift_runs
WHERE strategy_id = %(strategy_id)s AND session > %(window_end)s;

-- name: registry_history_exists
-- Does this database keep a history of a model registry?
SELECT to_regclass('mlops.registry_history') IS NOT NULL;

-- name: champions
-- Which versions did an alias of a model point to, from when to when?
SELECT version, valid_from AS since, valid_to AS until, coalesce(mlflow_user, db_user) AS changed_by,
    coalesce(reason, '') AS reason
FROM mlops.registry_history
WHERE workspace = 'default' AND name = %(model)s AND kind = 'alias' AND subject = %(alias)s
ORDER BY valid_from;

-- name: registry_exists
-- Has this database a registry of models?
SELECT to_regclass('registered_models') IS NOT NULL;

-- name: registered_models
-- Which models does the registry know?
SELECT name FROM registered_models ORDER BY name;

-- name: version_before
-- Which version judged the last session before one?
SELECT model_version FROM mlops.drift_runs
WHERE strategy_id = %(strategy_id)s AND session < %(session)s AND model_version <> ''
ORDER BY session DESC
LIMIT 1;

-- name: as_of_before
-- As of when was the last session before one judged?
SELECT session, as_of FROM mlops.drift_runs
WHERE strategy_id = %(strategy_id)s AND session < %(session)s
ORDER BY session DESC
LIMIT 1;

-- name: entity_numbers
-- What are the numbers of all names, or of these?
SELECT entity_key, entity_id FROM mlops.drift_entities
WHERE %(entity_ids)s::integer[] IS NULL OR entity_id = ANY (%(entity_ids)s);

-- name: save_histogram
-- Keep how a session's values fell into a reference's buckets.
INSERT INTO mlops.drift_histograms (strategy_id, session, reference_id, dimension, counts)
VALUES (%(strategy_id)s, %(session)s, %(reference_id)s, %(dimension)s, %(counts)s)
ON CONFLICT (strategy_id, session, reference_id, dimension) DO UPDATE SET counts = excluded.counts;

-- name: histograms
-- How did the values of some sessions fall into a reference's buckets?
SELECT session, dimension, counts FROM mlops.drift_histograms
WHERE strategy_id = %(strategy_id)s AND reference_id = %(reference_id)s
    AND session BETWEEN %(start)s AND %(end)s
ORDER BY session, dimension;

-- name: feature_prints
-- What were a session's feature values, as hashes of groups of names?
SELECT dimension, prints FROM mlops.drift_feature_prints
WHERE strategy_id = %(strategy_id)s AND session = %(session)s;

-- name: save_feature_prints
-- Keep them for the next session.
INSERT INTO mlops.drift_feature_prints (strategy_id, session, dimension, prints)
VALUES (%(strategy_id)s, %(session)s, %(dimension)s, %(prints)s)
ON CONFLICT (strategy_id, session, dimension) DO UPDATE SET prints = excluded.prints;

-- name: repairs
-- From which sessions on is a feature right again, as persons said?
SELECT feature, session FROM mlops.drift_repairs WHERE strategy_id = %(strategy_id)s;

-- name: add_repair
-- A feature is right again from a session on.
INSERT INTO mlops.drift_repairs (strategy_id, feature, session, repaired_by, reason)
VALUES (%(strategy_id)s, %(feature)s, %(session)s, %(by)s, %(reason)s)
ON CONFLICT (strategy_id, feature, session)
    DO UPDATE SET repaired_by = excluded.repaired_by, reason = excluded.reason;

-- name: mark_stale
-- Have a session computed again.
INSERT INTO mlops.drift_stale (strategy_id, session, reason)
VALUES (%(strategy_id)s, %(session)s, %(reason)s);

-- name: drop_feature_prints
-- Sessions long before are no longer next to one that is computed; if one is, they are made again.
DELETE FROM mlops.drift_feature_prints
WHERE strategy_id = %(strategy_id)s AND session < %(session)s::date - 14;

-- name: alerts
-- Which alerts does a strategy have? All, the unresolved ones, or those that touch the time since.
SELECT alert_id, session, rule, severity, state, metric, value, action, note, last_session,
    resolved_session, silenced_until, changed_by, inhibited, notified_state, opened_at, (
        SELECT to_jsonb(e) ->> 'db_user' FROM mlops.drift_alert_events AS e
        WHERE e.alert_id = a.alert_id ORDER BY e.event_id DESC LIMIT 1
    ) AS db_user
FROM mlops.drift_alerts AS a
WHERE strategy_id = %(strategy_id)s
    AND (%(states)s::text[] IS NULL OR state = ANY (%(states)s))
    AND (%(since)s::date IS NULL OR state <> 'resolved' OR resolved_session >= %(since)s)
ORDER BY session, alert_id;

-- name: open_alert
-- A rule has begun to hold.
INSERT INTO mlops.drift_alerts (
    strategy_id, rule, metric, severity, state, session, last_session, resolved_session, value,
    action, note, silenced_until, inhibited, changed_by
) VALUES (
    %(strategy_id)s, %(rule)s, %(metric)s, %(severity)s, %(state)s, %(session)s, %(last_session)s,
    %(resolved_session)s, %(value)s, %(action)s, %(note)s, %(silenced_until)s, %(inhibited)s, 'drift'
);

-- name: change_alert
-- What has become of an alert?
UPDATE mlops.drift_alerts SET
    state = %(state)s, session = %(session)s, last_session = %(last_session)s,
    resolved_session = %(resolved_session)s, value = %(value)s, note = %(note)s,
    severity = %(severity)s, silenced_until = %(silenced_until)s, inhibited = %(inhibited)s,
    changed_by = CASE WHEN state = %(state)s THEN changed_by ELSE 'drift' END
WHERE alert_id = %(alert_id)s;

-- name: acknowledge
-- A person takes care of the alert.
UPDATE mlops.drift_alerts SET state = 'acknowledged', changed_by = %(by)s, note = %(note)s
WHERE strategy_id = %(strategy_id)s AND alert_id = %(alert_id)s
    AND state IN ('open', 'acknowledged')
RETURNING alert_id;

-- name: silence
-- Mute a rule for the sessions that close in a period.
INSERT INTO mlops.drift_silences (
    strategy_id, rule, silenced_from, silenced_until, silenced_by, why
) VALUES (
    %(strategy_id)s, %(rule)s, %(silenced_from)s, %(silenced_until)s, %(by)s, %(why)s
);

-- name: silence_alerts
-- Its alerts of that time are silent from now on.
UPDATE mlops.drift_alerts SET
    state = 'silenced', silenced_until = %(silenced_until)s, changed_by = %(by)s, note = %(why)s
WHERE strategy_id = %(strategy_id)s AND rule = %(rule)s AND state IN ('open', 'acknowledged')
RETURNING alert_id;

-- name: silences
-- Which silences were declared?
SELECT rule, silenced_from, silenced_until FROM mlops.drift_silences
WHERE strategy_id = %(strategy_id)s
ORDER BY silenced_until;

-- name: alert_events
-- What became of the strategy's alerts, in order?
SELECT e.happened_at, a.rule, e.state_before, e.state_after, e.session, e.severity, e.changed_by,
    e.note, e.silenced_until, to_jsonb(e) ->> 'db_user' AS db_user
FROM mlops.drift_alert_events AS e
JOIN mlops.drift_alerts AS a USING (alert_id)
WHERE a.strategy_id = %(strategy_id)s
ORDER BY e.event_id;

-- name: alerts_to_notify
-- Which alerts have no notification yet?
SELECT alert_id, session, rule, severity, state, metric, value, action, note, last_session,
    resolved_session, silenced_until, changed_by, inhibited, notified_state, opened_at, (
        SELECT to_jsonb(e) ->> 'db_user' FROM mlops.drift_alert_events AS e
        WHERE e.alert_id = a.alert_id ORDER BY e.event_id DESC LIMIT 1
    ) AS db_user
FROM mlops.drift_alerts AS a
WHERE strategy_id = %(strategy_id)s AND NOT inhibited
    AND (state = 'open' OR (state = 'resolved' AND notified_state IS NOT NULL))
    AND notified_state IS DISTINCT FROM state
ORDER BY session, alert_id;

-- name: mark_notified
-- These alerts were notified, or need no notification.
UPDATE mlops.drift_alerts SET notified_state = state
WHERE strategy_id = %(strategy_id)s
    AND (%(alert_ids)s::bigint[] IS NULL OR alert_id = ANY (%(alert_ids)s))
    AND notified_state IS DISTINCT FROM state;

-- name: runs_to_log
-- Of which sessions does MLflow not have the latest revision?
SELECT session, revision, session_number, status, model_name, model_version, as_of, digest,
    computed_at, logged_revision, mlflow_run_id
FROM mlops.drift_runs
WHERE strategy_id = %(strategy_id)s AND logged_revision IS DISTINCT FROM revision
ORDER BY session;

-- name: claim_run
-- Remember under which MLflow run a session is.
UPDATE mlops.drift_runs SET mlflow_run_id = %(run_id)s
WHERE strategy_id = %(strategy_id)s AND session = %(session)s;

-- name: logged
-- MLflow has a session's revision.
UPDATE mlops.drift_runs SET logged_revision = %(revision)s, logged_number = session_number
WHERE strategy_id = %(strategy_id)s AND session = %(session)s;

-- name: judged_model
-- Which model did the strategy's predictions name last, up to a session?
SELECT model_name, model_version FROM mlops.drift_runs
WHERE strategy_id = %(strategy_id)s AND session <= %(session)s AND model_name <> ''
ORDER BY session DESC
LIMIT 1;

-- name: try_to_log
-- Be the only one who logs this strategy.
SELECT pg_try_advisory_xact_lock(hashtextextended('drift log ' || %(strategy_id)s::text, 0));

-- name: open_alerts_of
-- Which alerts were open on a session, worst first?
SELECT rule, severity, inhibited FROM mlops.drift_alerts
WHERE strategy_id = %(strategy_id)s AND session <= %(session)s AND last_session >= %(session)s
    AND note <> 'no longer so after a revision'
ORDER BY array_position(ARRAY['emergency', 'critical', 'warning'], severity), rule;

-- name: names_predicted
-- Some of the names of which a signal spoke, the last time that it did, up to a session.
WITH numbers AS (
    SELECT signal_id FROM mlops.drift_signals
    WHERE strategy_id = %(strategy_id)s AND signal_name = %(signal)s
), spoken AS (
    SELECT DISTINCT p.entity_id
    FROM mlops.drift_prediction_points AS p
    WHERE p.signal_id = ANY (ARRAY(SELECT signal_id FROM numbers)) AND p.session = (
        SELECT max(session) FROM mlops.drift_runs
        WHERE strategy_id = %(strategy_id)s AND session <= %(session)s AND status = 'ok'
    )
)
SELECT e.entity_key
FROM spoken AS s
JOIN mlops.drift_entities AS e USING (entity_id)
ORDER BY hashint4(s.entity_id)
LIMIT %(names)s;

-- name: deliveries_exist
-- Has this database the outbox of alerts? One that an older version migrated has none.
SELECT to_regclass('mlops.drift_deliveries') IS NOT NULL;

-- name: queue_deliveries
-- Queue a message for some targets.
INSERT INTO mlops.drift_deliveries (strategy_id, session, target, message)
SELECT %(strategy_id)s, %(session)s, target, %(message)s::jsonb
FROM unnest(%(targets)s::text[]) AS u (target);

-- name: claim_delivery
-- Which message is sent next? It stays locked until the sender's transaction ends, so that no two senders
-- take it, and a sender that is killed gives it back (SKIP LOCKED: senders do not wait for each other).
-- Messages that failed come after the others.
SELECT delivery_id, strategy_id, session, target, message::text, queued_at, attempts, last_error
FROM mlops.drift_deliveries
WHERE delivered_at IS NULL AND queued_at > clock_timestamp() - %(kept)s::interval
    AND target = ANY (%(targets)s::text[])
    AND (%(strategy_id)s::text IS NULL OR strategy_id = %(strategy_id)s)
    AND (%(every)s OR next_attempt_at <= clock_timestamp())
ORDER BY attempts, queued_at, delivery_id
LIMIT 1
FOR UPDATE SKIP LOCKED;

-- name: delivered
-- The target has taken it.
UPDATE mlops.drift_deliveries
SET delivered_at = clock_timestamp(), attempts = attempts + 1, last_error = ''
WHERE delivery_id = %(delivery_id)s;

-- name: not_delivered
-- The attempt failed: the wait doubles from one minute to six hours.
UPDATE mlops.drift_deliveries
SET attempts = attempts + 1, last_error = %(error)s,
    next_attempt_at = clock_timestamp() + least(power(2, least(attempts, 9)) * interval '1 minute', interval '6 hours')
WHERE delivery_id = %(delivery_id)s;

-- name: undelivered
-- Which messages has their target not taken, and why?
SELECT delivery_id, strategy_id, session, target, message::text, queued_at, attempts, last_error
FROM mlops.drift_deliveries
WHERE delivered_at IS NULL AND (%(strategy_id)s::text IS NULL OR strategy_id = %(strategy_id)s)
    AND queued_at > clock_timestamp() - interval '90 days'
ORDER BY queued_at, delivery_id;

-- name: waiting_targets
-- For which targets do messages wait?
SELECT DISTINCT target FROM mlops.drift_deliveries
WHERE delivered_at IS NULL AND queued_at > clock_timestamp() - %(kept)s::interval
    AND next_attempt_at <= clock_timestamp();

-- name: webhooks_exist
-- Has this database webhooks of a model registry?
SELECT to_regclass('webhooks') IS NOT NULL AND to_regclass('webhook_events') IS NOT NULL;

-- name: tag_webhooks
-- Which active webhooks of the registry wait for tags of model versions?
SELECT w.webhook_id, w.name
FROM webhooks AS w
JOIN webhook_events AS e USING (webhook_id)
WHERE w.workspace = 'default' AND w.status = 'ACTIVE' AND w.deleted_timestamp IS NULL
    AND e.entity = 'model_version_tag' AND e.action = 'set'
ORDER BY w.name, w.webhook_id;

-- name: research_table
-- Schema, name and columns of a table or view; no row where there is none, or where the user may not read it.
SELECT n.nspname, c.relname, a.attname
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.oid = to_regclass(%(name)s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND has_table_privilege(c.oid, 'SELECT')
ORDER BY a.attnum;

-- name: research_rows
-- One feature of some entities in a range of sessions; of several rows of a cell the last counts.
SELECT entity_key, {day}, {feature}
FROM {relation}
WHERE entity_key = ANY(%(entities)s) AND {day} BETWEEN %(start)s AND %(end)s
ORDER BY {day};
