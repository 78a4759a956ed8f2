"""Gathering what one session's report shows, out of what is stored."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timezone
from urllib.parse import quote

import numpy as np

from mlflow_timescale.common.calendar_ends import assumption
from mlflow_timescale.common.calendars import NotASession
from mlflow_timescale.db import Connection, load

from ..alerts import lifecycle
from ..cautions import cautions
from ..changes import changes
from ..computation.history import History
from ..inputs.champions import Champions
from ..metrics import cusum
from ..metrics.arrays import Floats
from ..metrics.psi import PSIResult, Reference, psi_from_counts
from ..results import values
from ..results.references import AcceptedWindow, References
from ..results.remarks import remarks
from ..strategies import Strategy
from .page import Report

_queries = load("drift")

_USERINFO = re.compile(r"(://)[^/?#]*@")
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
    "turnover",
    "n_signals",
    "n_returns",
    "n_features",
)


def gather(
    conn: Connection,
    strategy: Strategy,
    session: date,
    history: History,
    *,
    now: datetime | None = None,
    registry: str = "",
) -> Report:
    """What the report of a computed session shows. Raises NotASession if it was not computed.

    `now` is the time of a page that is made on demand; by default that of the next open, until
    which the session is the last one. `registry` is the address of an MLflow server.
    """
    runs = values.runs(conn, strategy.strategy_id, session, session)
    if not runs:
        raise NotASession(
            f"session {session} of {strategy.strategy_id!r} has not been computed yet"
        )
    end = history.sessions.index(session) + 1
    drawn = slice(max(end - DRAWN, 0), end)
    references = References(conn, strategy.strategy_id)
    judge = references.at(session)
    features = _features(conn, strategy, references, judge, session)
    baseline = history.levels[end - 1]
    ic = history.of("ic")[drawn]
    alerts = lifecycle.find(conn, strategy.strategy_id)
    over = strategy.calendar.session_open(strategy.calendar.next_session(session))
    return Report(
        strategy=strategy.strategy_id,
        session=session,
        sessions=history.sessions[drawn],
        series={name: history.arrays[name][drawn] for name in SERIES if name in history.arrays},
        evaluation=history.judge(strategy.judging).cut(slice(end)),
        baseline=baseline,
        onset=cusum.onset(ic, baseline) if baseline is not None else None,
        psi_ratios=_ratios(conn, strategy, features, history.sessions[drawn]),
        features=features,
        facts=_facts(conn, strategy, runs[0], judge),
        model_url=_model_url(registry, runs[0]),
        stored={alert.rule: alert for alert in lifecycle.as_of(alerts, strategy.judging, session)},
        cautions=cautions(conn, strategy, now or over),
        changes=changes(conn, strategy, session, alerts),
        periods_per_year=strategy.periods_per_year,
        judged=history.sessions[:end],
        remarks=remarks(values.of_sessions(conn, strategy.strategy_id, session, session)),
    )


def read_history(conn: Connection, strategy: Strategy) -> History:
    """All that reports draw, read once for any number of them."""
    references = References(conn, strategy.strategy_id)
    return History.read(conn, strategy, references, metrics=SERIES)


def _features(
    conn: Connection,
    strategy: Strategy,
    references: References,
    judge: AcceptedWindow | None,
    session: date,
) -> dict[str, tuple[Reference, PSIResult]]:
    if judge is None:
        return {}
    row = {
        "strategy_id": strategy.strategy_id,
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
    strategy: Strategy,
    features: Mapping[str, tuple[Reference, PSIResult]],
    sessions: Sequence[date],
) -> dict[str, Floats]:
    """PSI in units of its limit, of the features that are worst at the last session."""
    worst = sorted(features, key=lambda name: -(features[name][1].ratio or 0.0))[:DRAWN_FEATURES]
    if not worst:
        return {}
    found = values.of_sessions(
        conn, strategy.strategy_id, sessions[0], sessions[-1], ["psi", "psi_limit"], worst
    )
    arrays = values.on_sessions(found, sessions)
    missing = np.full(len(sessions), np.nan)
    return {
        name: arrays.get(("psi", name), missing) / arrays.get(("psi_limit", name), missing)
        for name in worst
    }


def _model_url(registry: str, run: values.Run) -> str:
    """The page of the judged version; "" without an MLflow server or a version."""
    if not registry.startswith(("http://", "https://")) or not run.model_version:
        return ""
    server = _USERINFO.sub(r"\1", registry.rstrip("/"))
    return f"{server}/#/models/{quote(run.model_name)}/versions/{run.model_version}"


def _champion(conn: Connection, strategy: Strategy, run: values.Run) -> str:
    """The champion when the session signalled; of the last session that closed, the present one."""
    champions, model = Champions(conn), run.model_name
    is_last = strategy.calendar.last_sessions(1, datetime.now(timezone.utc))[-1] == run.session
    champion = champions.at(model, run.as_of) or (champions.now(model) if is_last else None)
    if champion is None:
        return "not known for this session" if model else ""
    if champion.names(run.model_version):
        return f"{champion}, the version that served"
    return f"{champion}, which is NOT the version that served"


def _facts(
    conn: Connection, strategy: Strategy, run: values.Run, judge: AcceptedWindow | None
) -> dict[str, str]:
    calendar = strategy.calendar
    model = f"{run.model_name} {run.model_version}".strip()
    following = calendar.next_session(run.session)
    facts = {
        "Served by": model or "not named by the predictions",
        "Champion": _champion(conn, strategy, run),
        "As of": f"{run.as_of:%Y-%m-%d %H:%M} UTC, computed {run.computed_at:%Y-%m-%d %H:%M} UTC",
        "Next session": f"{following}, closes {calendar.session_close(following):%Y-%m-%d %H:%M} "
        f"UTC; after that, look for a newer page",
        "Calendar": calendar.name,
        "Revision": str(run.revision),
    }
    facts = {name: text for name, text in facts.items() if text}
    if judge is None:
        facts["Reference"] = "none: neither the IC nor the features can be judged yet"
    else:
        facts["Reference"] = (
            f"{judge.role}, version {judge.version}, {judge.window_start} to {judge.window_end}: "
            f"{judge.reason}"
        )
    if strategy.calendar.assumed_from is not None:
        facts["Calendar ends"] = (
            f"{assumption(strategy.calendar)} from {strategy.calendar.assumed_from} on"
        )
    return facts
