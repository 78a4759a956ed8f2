-- Files that are known to be damaged: the last check of each, by any client, found other bytes or
-- no file.
CREATE OR REPLACE FUNCTION mlops.source_failures(source text, run_id text)
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
