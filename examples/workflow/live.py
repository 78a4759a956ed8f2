"""Step 7: the decisions of every session, remembered; and a feature that comes a session late."""

from __future__ import annotations

from datetime import date

import pandas as pd

from mlflow_timescale import Serving
from mlflow_timescale.common import packages
from mlflow_timescale.features import FeatureStore

from .market import Market
from .settings import FEATURES

memory = packages.attribute("drift", "serving.memory")


def decide(live: Serving, market: Market, session: date) -> pd.Series:
    """The signals of a session: features are read as known at the decision, and all is recorded.

    The request id makes a repetition harmless.
    """
    return live.predict(
        market.names, as_of=market.decision_time(session), request_id=f"close of {session}"
    )


def decide_with_late_feature(
    live: Serving, store: FeatureStore, market: Market, session: date, feature: str
) -> pd.Series:
    """The same by a faster path of the desk, whose cache still has yesterday's value of a feature.

    The desk's own code reads the features and predicts; `record` remembers what the model was
    given.
    """
    before = market.sessions(min(market.closes), session)[-2]
    frame = known_at(store, market, session)
    frame[feature] = known_at(store, market, before)[feature]  # the bug
    signals = pd.Series(live.model.predict(frame), frame.index)
    live.record(
        market.names,
        features=frame,
        output=signals.to_list(),
        as_of=market.decision_time(session),
        request_id=f"close of {session}",
    )
    return signals


def known_at(store: FeatureStore, market: Market, session: date) -> pd.DataFrame:
    """The features of all stocks as known at the decision of a session."""
    values = store.get_latest(market.names, FEATURES, as_of=market.decision_time(session))
    rows = {name: {f: values[name][f].value for f in FEATURES} for name in market.names}
    return pd.DataFrame.from_dict(rows, orient="index")


def last_decided(live: Serving) -> date | None:
    """The last session that the memory holds: an interrupted replay goes on after it."""
    with live.database.connection() as conn:
        session: date | None = memory.last_session(conn, live.strategy)
    return session


def remembered(live: Serving, first: date, last: date) -> pd.DataFrame:
    """The signals that were served: a row for each session, a column for each stock."""
    with live.database.connection() as conn:
        blocks = list(memory.served(conn, live.strategy, first, last))
    rows = {
        block.session: dict(zip(block.entities, block.outputs, strict=True)) for block in blocks
    }
    return pd.DataFrame.from_dict(rows, orient="index")
