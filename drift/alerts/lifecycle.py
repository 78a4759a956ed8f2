"""The lifecycle of alerts: open, acknowledged, silenced, resolved.

After every computation the rules are evaluated again over the whole series, and the stored alerts
are updated to match; acknowledgements and silences are kept. A trigger records every change of
state in `mlops.drift_alert_events`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timezone
from typing import Any

import numpy as np

from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.db import Connection, Error, load
from mlflow_timescale.db.rows import mappings, records

from .rules import SEVERITIES, Evaluation, Rule, RuleStates

_queries = load("drift")
REVISED_AWAY = "no longer so after a revision"
ACCEPTED = "its session belongs to a window that was accepted since"


class NoSuchAlert(Error, LookupError):
    """There is no open alert of that number."""


@dataclass(frozen=True)
class Alert:
    """One alert and its state.

    Attributes
    ----------
    alert_id
        Its number, for `DriftMonitor.acknowledge`.
    session, last_session, resolved_session
        The session on which it opened, the last one on which it held, and the one on which it
        resolved; None while it is open.
    rule, severity, metric, value, action
        The rule, and the statistic at the opening; `action` is a recommendation to a person.
    state
        "open", "acknowledged", "silenced" or "resolved".
    note, changed_by
        Of the last change of state; the name is the one that the caller gave.
    db_user
        The login that made the last change; None before the schema recorded it.
    silenced_until
        The end of a silence (aware); None without one.
    inhibited
        True while a more severe alert is open; it then sends no notification.
    notified_state
        The state that people were last notified of; None if they were not.
    opened_at
        When the alert was recorded (aware).

    Examples
    --------
    >>> from datetime import timezone
    >>> opened, moment = date(2024, 1, 3), datetime(2024, 1, 3, 22, tzinfo=timezone.utc)
    >>> Alert(1, opened, "ic low", "warning", "open", "ic", 0.01, "Check the features.", "", opened,
    ...       None, None, "monitor", False, None, moment).state
    'open'
    """

    alert_id: int
    session: date
    rule: str
    severity: str
    state: str
    metric: str
    value: float | None
    action: str
    note: str
    last_session: date
    resolved_session: date | None
    silenced_until: datetime | None
    changed_by: str
    inhibited: bool
    notified_state: str | None
    opened_at: datetime
    db_user: str | None = None


@dataclass(frozen=True)
class Episode:
    """A run of sessions on which a rule was open; `resolved` is the session after it, if any."""

    rule: Rule
    opened: date
    last: date
    resolved: date | None
    value: float
    inhibited: bool


@dataclass(frozen=True)
class Silence:
    """A period in which alerts of a rule send no notification."""

    rule: str
    silenced_from: datetime
    silenced_until: datetime


def find(
    conn: Connection,
    strategy_id: str,
    *,
    states: Sequence[str] | None = None,
    since: date | None = None,
) -> list[Alert]:
    """A strategy's alerts by session; only those in `states`, or not resolved before `since`."""
    parameters = {
        "strategy_id": strategy_id,
        "states": None if states is None else list(states),
        "since": since,
    }
    return records(conn, Alert, _queries.alerts, parameters)


def open_at(
    conn: Connection, strategy_id: str, rules: Sequence[Rule], session: date
) -> list[Alert]:
    """The alerts as of a session: those that were open then, whatever became of them later.

    What people did about them since then counts: an alert acknowledged today is acknowledged.
    """
    return as_of(find(conn, strategy_id, since=session), rules, session)


def as_of(found: Sequence[Alert], rules: Sequence[Rule], session: date) -> list[Alert]:
    """Of stored alerts, those that were open at a session, as they were then."""
    then = [
        alert
        for alert in found
        if alert.session <= session <= alert.last_session and alert.note != REVISED_AWAY
    ]
    names = {alert.rule for alert in then}
    muted = {muted for rule in rules if rule.name in names for muted in rule.inhibits}
    return [_as_then(alert, alert.rule in muted) for alert in then]


def _as_then(alert: Alert, inhibited: bool) -> Alert:
    if alert.state != "resolved":
        return replace(alert, inhibited=inhibited)
    return replace(alert, state="open", resolved_session=None, inhibited=inhibited)


def loud(alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    """The alerts that need a person: open, and not inhibited by a more severe one; worst first."""
    heard = [alert for alert in alerts if alert.state == "open" and not alert.inhibited]
    return tuple(sorted(heard, key=lambda a: (-SEVERITIES.index(a.severity), a.session)))


def handled(alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    """The alerts that hold, and that a person acknowledged or silenced; worst first."""
    kept = [a for a in alerts if a.state in ("acknowledged", "silenced") and not a.inhibited]
    return tuple(sorted(kept, key=lambda a: (-SEVERITIES.index(a.severity), a.session)))


def handled_text(alert: Alert) -> str:
    """One line on an alert that a person has acknowledged or silenced."""
    by = f", by {alert.changed_by}" if alert.changed_by else ""
    note = f": {alert.note}" if alert.note else ""
    return f"{alert.state}: {alert.rule} ({alert.severity} since {alert.session}{by}{note})"


def of_episode(episode: Episode, session: date) -> Alert:
    """The alert that an episode will be; its number is 0 until it is stored."""
    rule, now = episode.rule, datetime.now(timezone.utc)
    return Alert(
        alert_id=0,
        session=episode.opened,
        rule=rule.name,
        severity=rule.severity,
        state="open",
        metric=rule.metric,
        value=episode.value,
        action=rule.action,
        note="",
        last_session=session,
        resolved_session=None,
        silenced_until=None,
        changed_by="",
        inhibited=episode.inhibited,
        notified_state=None,
        opened_at=now,
    )


def history(conn: Connection, strategy_id: str) -> list[dict[str, Any]]:
    """Every change of state of a strategy's alerts, in order."""
    return mappings(conn, _queries.alert_events, {"strategy_id": strategy_id})


def episodes(found: Evaluation, sessions: Sequence[date], after: date) -> list[Episode]:
    """The runs of open sessions later than `after`; of one that began before, the later part."""
    later = next((i for i, session in enumerate(sessions) if session > after), len(sessions))
    result = [
        episode
        for states in found.states.values()
        for episode in _runs(states.cut(slice(later, None)), sessions[later:])
    ]
    return sorted(result, key=lambda e: e.opened)


def _runs(states: RuleStates, sessions: Sequence[date]) -> Iterator[Episode]:
    edges = np.flatnonzero(np.diff(states.open.astype(np.int8), prepend=0, append=0)).tolist()
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        yield Episode(
            rule=states.rule,
            opened=sessions[start],
            last=sessions[end - 1],
            resolved=sessions[end] if end < len(sessions) else None,
            value=float(states.statistic[start]),
            inhibited=bool(states.inhibited[end - 1]),
        )


def reconcile(
    conn: Connection,
    strategy_id: str,
    found: Sequence[Episode],
    calendar: TradingCalendar,
    after: date,
    note: Callable[[Episode], str] = lambda episode: "",
) -> None:
    """Update the stored alerts of the sessions later than `after` to match the episodes.

    Acknowledgements stay: an acknowledged alert that still holds stays acknowledged. Earlier alerts
    belong to the window accepted since, and are resolved.
    """
    silences = _silences(conn, strategy_id)
    known = find(conn, strategy_id)
    for alert in known:
        if alert.session <= after and alert.state != "resolved":
            _resolve(conn, alert, alert.last_session, ACCEPTED)
    stored = [alert for alert in known if alert.session > after]
    for episode in found:
        match = _matching(stored, episode)
        row = _row(strategy_id, episode, match, _silenced(silences, episode, calendar))
        row["note"] = _kept_note(match, episode) or note(episode)
        if match is None:
            conn.execute(_queries.open_alert, row)
        else:
            stored.remove(match)
            is_back = match.note == REVISED_AWAY
            if is_back or any(getattr(match, column) != row[column] for column in _FOLLOWS):
                conn.execute(_queries.change_alert, {**row, "alert_id": match.alert_id})
    for alert in stored:
        if alert.state != "resolved":
            _resolve(conn, alert, alert.session, REVISED_AWAY)


def _kept_note(match: Alert | None, episode: Episode) -> str:
    """The note that an alert has; "" for one that is open again, or so again after a revision."""
    if match is None or match.note == REVISED_AWAY:
        return ""
    is_open_again = match.state == "resolved" and episode.resolved is None
    return "" if is_open_again else match.note


_FOLLOWS = (
    "state",
    "session",
    "last_session",
    "resolved_session",
    "value",
    "severity",
    "inhibited",
)


def _matching(stored: Sequence[Alert], episode: Episode) -> Alert | None:
    for alert in stored:
        overlaps = alert.session <= episode.last and alert.last_session >= episode.opened
        if alert.rule == episode.rule.name and overlaps:
            return alert
    return None


def _row(
    strategy_id: str, episode: Episode, match: Alert | None, silence: Silence | None
) -> dict[str, Any]:
    return {
        "strategy_id": strategy_id,
        "rule": episode.rule.name,
        "metric": episode.rule.metric,
        "severity": episode.rule.severity,
        "state": _state(episode, match, silence),
        "session": episode.opened,
        "last_session": episode.last,
        "resolved_session": episode.resolved,
        "value": episode.value,
        "action": episode.rule.action,
        "silenced_until": silence.silenced_until if silence else None,
        "inhibited": episode.inhibited,
    }


def _state(episode: Episode, match: Alert | None, silence: Silence | None) -> str:
    if episode.resolved is not None:
        return "resolved"
    if silence is not None:
        return "silenced"
    return "acknowledged" if match and match.state == "acknowledged" else "open"


def _silences(conn: Connection, strategy_id: str) -> list[Silence]:
    return records(conn, Silence, _queries.silences, {"strategy_id": strategy_id})


def _silenced(
    silences: Sequence[Silence], episode: Episode, calendar: TradingCalendar
) -> Silence | None:
    """The silence over an episode's last session: by event time, whenever that is computed."""
    close = calendar.session_close(episode.last)
    covering = [
        s
        for s in silences
        if s.rule == episode.rule.name and s.silenced_from <= close <= s.silenced_until
    ]
    return covering[-1] if covering else None


def _resolve(conn: Connection, alert: Alert, last: date, note: str) -> None:
    row = {
        **vars(alert),
        "state": "resolved",
        "resolved_session": last,
        "last_session": last,
        "note": note,
    }
    conn.execute(_queries.change_alert, row)


def acknowledge(conn: Connection, strategy_id: str, alert_id: int, by: str, note: str) -> None:
    """Record that a person handles an alert. Raises NoSuchAlert unless it is open."""
    row = {"strategy_id": strategy_id, "alert_id": alert_id, "by": by, "note": note}
    if conn.execute(_queries.acknowledge, row).fetchone() is None:
        raise NoSuchAlert(f"strategy {strategy_id!r} has no open alert {alert_id}; {_LOOK}")


def silence(
    conn: Connection,
    strategy_id: str,
    rule: str,
    period: tuple[datetime, datetime],
    by: str,
    why: str,
) -> int:
    """Mute a rule for the sessions that close in `period`; return the number of alerts muted.

    Raises ValueError for a period that ends before it begins, or an empty `why`.
    """
    if period[1] <= period[0]:
        raise ValueError(f"a silence until {period[1]} ends before it begins, at {period[0]}")
    if not why.strip():
        raise ValueError("a silence needs a reason, which is shown in the alert's history")
    row = {
        "strategy_id": strategy_id,
        "rule": rule,
        "silenced_from": period[0],
        "silenced_until": period[1],
        "by": by,
        "why": why,
    }
    with conn.transaction():
        conn.execute(_queries.silence, row)
        return len(conn.execute(_queries.silence_alerts, row).fetchall())


def to_notify(conn: Connection, strategy_id: str) -> list[Alert]:
    """The alerts that opened or resolved and were not notified yet."""
    return records(conn, Alert, _queries.alerts_to_notify, {"strategy_id": strategy_id})


def mark_notified(
    conn: Connection, strategy_id: str, notified: Sequence[Alert] | None = None
) -> None:
    """Record that alerts were notified, or (None) that none of the present ones need be."""
    ids = None if notified is None else [alert.alert_id for alert in notified]
    conn.execute(_queries.mark_notified, {"strategy_id": strategy_id, "alert_ids": ids})


_LOOK = "see `mlflow-timescale drift alerts`"
