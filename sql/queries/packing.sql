-- name: take_turn
-- One packs at a time: what is left of an interrupted one looks like what another is building.
SELECT pg_try_advisory_lock(hashtextextended('mlops.packing', 0));

-- name: loose_keys
-- The keys of metrics that take much more room than they would if rebuilt. A key holds every column of
-- its table: packed it is nine tenths as large.
SELECT
    namespace.nspname AS schema,
    key.relname AS name,
    pg_relation_size(key.oid) AS bytes,
    pg_relation_size(pg_index.indrelid) * 9 / 10 AS packed
FROM pg_index
JOIN pg_class AS key ON key.oid = pg_index.indexrelid
JOIN pg_namespace AS namespace ON namespace.oid = key.relnamespace
WHERE pg_index.indisprimary
    AND pg_index.indrelid IN (
        SELECT 'metrics'::regclass
        UNION ALL
        SELECT inhrelid FROM pg_inherits WHERE inhparent = 'metrics'::regclass
    )
    AND pg_relation_size(key.oid) > 1000000
    AND pg_relation_size(key.oid) > 1.2 * pg_relation_size(pg_index.indrelid) * 0.9
ORDER BY bytes DESC;

-- name: abandoned_keys
-- What an interrupted rebuild left.
SELECT namespace.nspname AS schema, key.relname AS name
FROM pg_index
JOIN pg_class AS key ON key.oid = pg_index.indexrelid
JOIN pg_namespace AS namespace ON namespace.oid = key.relnamespace
WHERE NOT pg_index.indisvalid
    AND key.relname ~ '_cc(new|old)[0-9]*$'
    AND pg_index.indrelid IN (
        SELECT 'metrics'::regclass
        UNION ALL
        SELECT inhrelid FROM pg_inherits WHERE inhparent = 'metrics'::regclass
    );

-- name: drop_key
-- Remove what an interrupted rebuild left.
DROP INDEX CONCURRENTLY {key};

-- name: rebuild_key
-- Rebuild a key next to the old one, while others read and write.
REINDEX INDEX CONCURRENTLY {key};

-- name: size
-- How large is a key now?
SELECT pg_relation_size(format('%%I.%%I', %(schema)s::text, %(name)s::text)::regclass);
