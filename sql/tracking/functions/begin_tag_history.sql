--! requires: mlflow
-- Make the history agree with the tags that there are now: what no trigger has seen begins, or ends, at
-- this moment, because its time is unknown.
CREATE OR REPLACE FUNCTION mlops.begin_tag_history(because text) RETURNS void LANGUAGE sql AS $$
    SELECT mlops.tag_change(
        coalesce(tag.run_uuid, open.run_id), coalesce(tag.key, open.key), tag.key IS NOT NULL,
        tag.value, CASE WHEN tag.key IS NULL THEN 'deleted' ELSE 'changed' END, because)
    FROM (
        SELECT t.run_uuid::text, t.key::text, t.value::text FROM "@mlflow".tags AS t
        WHERE t.key IN (SELECT kept.key FROM mlops.kept_tags AS kept WHERE kept.kept_to IS NULL)
    ) AS tag
    FULL JOIN (
        SELECT h.run_id, h.key, h.value FROM mlops.run_tag_history AS h WHERE h.valid_to IS NULL
    ) AS open ON (open.run_id, open.key) = (tag.run_uuid, tag.key)
    WHERE open.run_id IS NULL OR tag.run_uuid IS NULL OR tag.value IS DISTINCT FROM open.value
$$;
REVOKE ALL ON FUNCTION mlops.begin_tag_history(text) FROM PUBLIC;
