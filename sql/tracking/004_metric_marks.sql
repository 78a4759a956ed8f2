--! requires: mlflow metrics_rebuild
--! replaces: base/0101_metric_marks base/0108_charts
-- A B-tree finds a point by its step, not by its rank; charts and pages need ranks ("every 3125th
-- point", "from the 750,000th on"). Every 128th point of a series is therefore marked with its rank,
-- so that any rank is a short walk from a mark. Triggers keep the marks for every client.

-- The range of time in which a run has points. Reads of one run then open only its chunks.
-- Ranges are rounded outwards to 2^27 ms (37 hours), so that an active run rarely changes its row.
-- The row is also the lock that orders the writers of one run.
CREATE TABLE mlops.run_ranges (
    run_uuid text PRIMARY KEY,
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL
);

CREATE TABLE mlops.metric_marks (
    run_uuid text NOT NULL,
    key text NOT NULL,
    -- The number of points of the series before this one, by (step, timestamp, value, is_nan).
    rank bigint NOT NULL,
    step bigint NOT NULL,
    "timestamp" bigint NOT NULL,
    value double precision NOT NULL,
    is_nan boolean NOT NULL,
    -- Whether the points since the previous mark are also in the order of their timestamps.
    ordered boolean NOT NULL,
    -- The distance between steps, from the previous mark to this one; 0: uneven or unknown.
    stride bigint NOT NULL DEFAULT 0,
    -- The range of time of those points; NULL: unknown.
    first_ms bigint,
    last_ms bigint,
    PRIMARY KEY (run_uuid, key, rank)
);
CREATE INDEX ON mlops.metric_marks (run_uuid, key, step, "timestamp", value, is_nan);
CREATE INDEX ON mlops.metric_marks (run_uuid, key) WHERE NOT ordered;
