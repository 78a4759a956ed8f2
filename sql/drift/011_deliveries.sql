-- The outbox of alerts: a message for each target, written in the transaction that opens or resolves the
-- alerts, and sent from here until the target has taken it.
-- Clients of this revision and older ones work side by side: an older monitor sends its messages itself,
-- and leaves those in this table to the next newer one.

-- `target` names a webhook by its host and a command by its program; addresses and arguments, which may
-- hold secrets, stay with the processes that send. `delivery_id` stays the same in every attempt, so that
-- a receiver can drop a repeat.
CREATE TABLE mlops.drift_deliveries (
    delivery_id uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
    strategy_id text NOT NULL,
    session date NOT NULL,
    target text NOT NULL,
    message jsonb NOT NULL,
    queued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_error text NOT NULL DEFAULT '',
    delivered_at timestamptz
);
CREATE INDEX drift_deliveries_waiting ON mlops.drift_deliveries (strategy_id, queued_at)
    WHERE delivered_at IS NULL;
