"""Gathering what one session's report shows, out of what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np

from mlflow_timescale.common.calendars import NotASession, TradingCalendar
from mlflow_timescale.db import Connection, load

from ..computation.judging import Config, History
from ..metrics import cusum
from ..metrics.arrays import Floats
from ..metrics.psi import PSIResult, Reference, psi_from_counts
from ..results import values
from ..results.references import References, Window
from .page import Report

_queries = load("drift")

DRAWN = 250  # sessions in the pictures
DRAWN_FEATURES = 25
SERIES = (
    "ic",
    "ic_5d_avg",
    "ic_60d_avg",
    "ic_cusum",
    "psi_max",
    "psi_ratio",
    "psi_5d_ratio",
    "psi_fixed_ratio",
    "sharpe_20d",
    "sharpe_60d",
    "drawdown",
    "strategy_return",
    "n_signals",
    "n_returns",
    "n_features",
)


def gather(
    conn: Connection, config: Config, calendar: TradingCalendar, session: date, history: History
) -> Report:
    """What the report of a computed session shows. Raises NotASession if it was not computed."""
    runs = values.runs(conn, config.strategy_id, session, session)
    if not runs:
        raise NotASession(f"session {session} of {config.strategy_id!r} has not been computed yet")
    end = history.sessions.index(session) + 1
    shown = slice(max(end - DRAWN, 0), end)
    references = References(conn, config.strategy_id)
    judge = references.at(session)
    features = _features(conn, config, references, judge, session)
    baseline = history.levels[end - 1]
    ic = history.of("ic")[shown]
    return Report(
        strategy=config.strategy_id,
        session=session,
        sessions=history.sessions[shown],
        series={name: history.arrays[name][shown] for name in SERIES if name in history.arrays},
        evaluation=history.judge(config.rules).cut(slice(end)),
        baseline=baseline,
        onset=cusum.onset(ic, baseline) if baseline is not None else None,
        psi_ratios=_ratios(conn, config, features, history.sessions[shown]),
        features=features,
        facts=_facts(config, calendar, runs[0], judge),
        periods_per_year=config.periods_per_year,
        judged=history.sessions[:end],
    )


def read_history(conn: Connection, config: Config, calendar: TradingCalendar) -> History:
    """All that reports draw, read once for any number of them."""
    references = References(conn, config.strategy_id)
    return History.read(conn, config, calendar, references, metrics=SERIES)


def _features(
    conn: Connection,
    config: Config,
    references: References,
    judge: Window | None,
    session: date,
) -> dict[str, tuple[Reference, PSIResult]]:
    if judge is None:
        return {}
    row = {
        "strategy_id": config.strategy_id,
        "reference_id": judge.reference_id,
        "start": session,
        "end": session,
    }
    distributions = references.distributions(judge)
    return {
        name: (distributions[name], psi_from_counts(distributions[name], counts))
        for _, name, counts in conn.execute(_queries.histograms, row).fetchall()
    }


def _ratios(
    conn: Connection,
    config: Config,
    features: Mapping[str, tuple[Reference, PSIResult]],
    sessions: Sequence[date],
) -> dict[str, Floats]:
    """PSI in units of its limit, of the features that are worst at the last session."""
    worst = sorted(features, key=lambda name: -(features[name][1].ratio or 0.0))[:DRAWN_FEATURES]
    if not worst:
        return {}
    found = values.of_sessions(
        conn, config.strategy_id, sessions[0], sessions[-1], ["psi", "psi_limit"], worst
    )
    arrays = values.on_sessions(found, sessions)
    missing = np.full(len(sessions), np.nan)
    return {
        name: arrays.get(("psi", name), missing) / arrays.get(("psi_limit", name), missing)
        for name in worst
    }


def _facts(
    config: Config, calendar: TradingCalendar, run: values.Run, judge: Window | None
) -> dict[str, str]:
    model = f"{run.model_name} {run.model_version}".strip()
    facts = {
        "Model": model or "not named by the predictions",
        "As of": f"{run.as_of:%Y-%m-%d %H:%M} UTC",
        "Calendar": calendar.name,
        "Revision": str(run.revision),
    }
    if judge is not None:
        facts["Reference"] = (
            f"version {judge.version}, {judge.window_start} to {judge.window_end}: {judge.reason}"
        )
    if calendar.assumed_from is not None:
        facts["Calendar ends"] = f"weekdays are taken for sessions from {calendar.assumed_from} on"
    return facts
