-- What a feature's values were in a session, as hashes of groups of names: enough to see that the
-- next session has the same ones, a frozen feed or one that is late, without reading them again.
CREATE TABLE mlops.drift_feature_prints (
    strategy_id text NOT NULL,
    session date NOT NULL,
    dimension text NOT NULL,
    prints integer[] NOT NULL,
    PRIMARY KEY (strategy_id, session, dimension)
);
