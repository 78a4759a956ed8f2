"""Step 8: every evening the monitor gets the returns that are known now, and judges the session."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import mlflow
import pandas as pd

from mlflow_timescale import Serving
from mlflow_timescale.common import packages
from mlflow_timescale.drift import DriftMonitor, Rule

from .live import remembered
from .market import Market
from .registration import book_returns
from .settings import FEATURES, LABEL, Settings

daily = packages.attribute("drift", "daily")
presets = packages.attribute("drift", "alerts.presets")

JOB = timedelta(hours=6)  # after the close
SKEW, BREAK = "skew", "market break"


def monitor_of(uri: str, settings: Settings, **options: Any) -> DriftMonitor:
    """The monitor of the strategy, with one rule beside those of the preset.

    Twenty names are too few for the preset's critical rule on the distributions of one session:
    their PSI cannot become large enough. That of five sessions together can; in 2019 it was at most
    its limit, here the rule begins at twice as much.
    """
    rule = Rule(
        BREAK,
        "psi_5d_ratio",
        ">",
        2.0,
        severity="critical",
        resolve=1.0,
        action="Start retraining.",
    )
    return DriftMonitor(
        uri,
        settings.name,
        rules=[*presets.default(), rule],
        features=list(FEATURES),
        model_name=settings.name,
        notify=(),
        **options,
    )


def record_returns(
    monitor: DriftMonitor, live: Serving, market: Market, days: Sequence[date], by: datetime
) -> None:
    """Record the returns of the decisions of some sessions, as far as they are known at a moment.

    The strategy's own return is that of a book by rank, dated by the session that earned it.
    Rows that are recorded already change nothing.
    """
    labels = market.labels
    known = labels[labels["session"].isin(days) & (labels["known_at"] <= pd.Timestamp(by))]
    if known.empty:
        return
    returns = known[["entity_key", "session", "known_at"]].assign(value=known[LABEL])
    monitor.record_returns(returns)
    wide = known.pivot(index="session", columns="entity_key", values=LABEL)
    # With the session before, whose book is what the first one trades against.
    before = market.sessions(min(market.closes), wide.index[0])[-2:][0]
    signals = remembered(live, before, wide.index[-1])
    own = book_returns(signals[wide.columns], wide.reindex(signals.index)).dropna()
    earned = known.groupby("session")["known_at"].first().dt.date
    monitor.record_strategy_returns(
        {"session": earned[own.index].to_list(), "value": own.to_list()}
    )


def judge(monitor: DriftMonitor, market: Market, session: date, **options: Any) -> Any:
    """The daily job of one session, six hours after its close: `mlflow-timescale daily`.

    Its result has the alerts, and the decision in words.
    """
    now = market.closes[session] + JOB
    [result] = daily.daily_job(
        monitor.uri, [monitor.strategy_id], session=session, now=now, **options
    )
    return result


def is_logged(session: date, settings: Settings) -> bool:
    """Whether a session is a run of MLflow that has its report."""
    name = f"drift/{settings.name}"
    if mlflow.get_experiment_by_name(name) is None:
        return False
    condition = f"tags.`drift.session` = '{session}' and tags.`drift.report` = 'report.html'"
    found = mlflow.search_runs(
        experiment_names=[name], filter_string=condition, output_format="list"
    )
    return bool(found)
