-- Requests whose effect is in the database: a client that does not know whether its transaction was
-- committed sends the same request again, and it has no effect.
-- Clients of this revision and older ones work side by side: older ones do not know the table.
CREATE TABLE mlops.requests (
    -- Made from what is written (a strategy, a run) and the caller's request id.
    request uuid PRIMARY KEY,
    -- A hash of the content: the same id with another content is an error of the caller.
    content bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
