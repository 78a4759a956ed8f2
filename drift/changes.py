"""What changed from one session to the next, for a reader who knows yesterday's page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime

from mlflow_timescale.db import Connection, load

from .alerts.lifecycle import REVISED_AWAY, Alert
from .inputs.champions import Champions
from .results import values
from .results.references import References
from .strategies import Strategy

_queries = load("drift")


def changes(
    conn: Connection, strategy: Strategy, session: date, alerts: Sequence[Alert]
) -> list[str]:
    """Sentences on alerts, versions, revisions and references since the session before.

    `alerts` are all stored alerts of the strategy.
    """
    before = strategy.calendar.previous_session(session)
    period = (
        strategy.calendar.session_open(session),
        strategy.calendar.session_open(strategy.calendar.next_session(session)),
    )
    return [
        *_alerts(alerts, session),
        *_versions(conn, strategy, before, session, period),
        *_revisions(conn, strategy, before, period),
        *_references(conn, strategy, period),
    ]


def _alerts(alerts: Sequence[Alert], session: date) -> Iterator[str]:
    for alert in alerts:
        if alert.note != REVISED_AWAY and alert.session == session:
            yield f"{alert.rule} opened ({alert.severity})"
        elif alert.resolved_session == session and alert.session < session:
            yield f"{alert.rule} resolved, open since {alert.session}"


def _versions(
    conn: Connection,
    strategy: Strategy,
    before: date,
    session: date,
    period: tuple[datetime, datetime],
) -> Iterator[str]:
    runs = {run.session: run for run in values.runs(conn, strategy.strategy_id, before, session)}
    old, new = (
        f"{run.model_name}/{run.model_version}".strip("/") if run else ""
        for run in (runs.get(before), runs.get(session))
    )
    if old and new and old != new:
        yield f"served by {new}, before by {old}"
    model = runs[session].model_name if session in runs else ""
    for champion in Champions(conn).between(model, *period):
        yield f"champion of {model} became {champion}"


def _revisions(
    conn: Connection, strategy: Strategy, before: date, period: tuple[datetime, datetime]
) -> Iterator[str]:
    row = {
        "strategy_id": strategy.strategy_id,
        "session": before,
        "start": period[0],
        "end": period[1],
    }
    for kind, count, sessions in conn.execute(_queries.revised_returns, row):
        if count:
            yield f"{count} {kind} of {sessions} earlier sessions were revised"


def _references(
    conn: Connection, strategy: Strategy, period: tuple[datetime, datetime]
) -> Iterator[str]:
    for window in References(conn, strategy.strategy_id).accepted:
        if period[0] <= window.accepted_at < period[1]:
            span = f"{window.window_start} to {window.window_end}"
            yield f"reference {window.version} was accepted: {span}, {window.reason}"
