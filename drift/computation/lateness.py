"""Which features are behind, by how many sessions, and until when.

A feed that becomes late by a session shows it on one day only: it repeats the values of an earlier
session, and then moves on, one session behind. It stays late until a session catches up. That is
seen where the late sessions are corrected in the feature store, where the feature changes together
with others again, where the event times give the delay, and where a person confirms it
(`DriftMonitor.confirm_repair`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.db import Connection, load

from ..inputs import feature_values
from ..inputs.champions import Champions
from ..metrics.feed_quality import prints, unchanged
from ..results import values
from ..results.references import References
from ..results.values import Value
from ..strategies import Strategy
from . import catching_up, observing
from .computed import ComputedSessions
from .session_values import PREDICTIONS

_queries = load("drift")
METRIC = "late"
READ = ("repeats", "behind", "caught_up")
STRATEGY_RETURNS = "strategy returns"
NEVER_IN_STEP = ("returns", STRATEGY_RETURNS)  # are right again when they are recorded again
SAME = 0.5  # of the names: more of them with an earlier session's values make a repetition


@dataclass
class Lateness:
    """The sessions by which one feature is behind, over `sessions`.

    `repeats` has the step back to the session whose values are repeated, `behind` the sessions
    that the event times are behind, both by session; `right` are the sessions from which the
    feature is right again.
    """

    sessions: Sequence[date]
    repeats: Mapping[date, int]
    behind: Mapping[date, int]
    right: set[date] = field(default_factory=set)

    def lags(self) -> list[int]:
        """By how many sessions the feature is behind at each session.

        >>> days = [date(2024, 1, day) for day in range(2, 7)]
        >>> Lateness(days, {days[1]: 1, days[2]: 1}, {}, {days[4]}).lags()
        [0, 1, 2, 2, 0]
        >>> Lateness(days, {days[2]: 2, days[3]: 2}, {}).lags()
        [0, 0, 2, 2, 2]
        """
        lags: list[int] = []
        for index, session in enumerate(self.sessions):
            step = self.repeats.get(session, 0)
            lag = lags[-1] if lags else 0
            if session in self.right:
                lag = 0
            elif step:
                lag = (lags[index - step] if step <= index else 0) + step
            lags.append(lag)
        return lags

    def onset(self, index: int) -> int:
        """The index of the session since which the feature is behind, at session number `index`."""
        lags = self.lags()
        while index > 0 and lags[index - 1]:
            index -= 1
        return index


def late_values(
    conn: Connection,
    strategy: Strategy,
    references: References,
    batch: ComputedSessions,
    sessions: Sequence[date],
    own_repeats: Mapping[date, int],
) -> list[Value]:
    """The value `late` of every input that was ever behind, and of the worst ("").

    `own_repeats` are the sessions that repeat the strategy return of an earlier one.
    """
    if not references or not sessions:
        return []
    facts = _facts(conn, strategy, batch, sessions)
    if own_repeats:
        facts[STRATEGY_RETURNS] = (dict(own_repeats), {}, set())
    judge = references.at(sessions[-1])
    watched = sorted(references.distributions(judge)) if facts and judge else []
    confirmed: dict[str, set[date]] = {}
    for feature, session in conn.execute(_queries.repairs, {"strategy_id": strategy.strategy_id}):
        confirmed.setdefault(feature, set()).add(session)
    behind: dict[str, list[int]] = {}
    for feature in sorted(facts, key=lambda name: name == PREDICTIONS):
        lateness = Lateness(sessions, *facts[feature])
        lateness.right |= confirmed.get(feature, set()) | confirmed.get("", set())
        if feature == PREDICTIONS:
            _follow_features(lateness, {n: lags for n, lags in behind.items() if n in watched})
        # A feature that is late itself cannot show that another one is not.
        others = [name for name in watched if name not in facts]
        _look_for_repairs(conn, strategy, batch, feature, lateness, others)
        behind[feature] = [
            max(lag, lateness.behind.get(session, 0))
            for lag, session in zip(lateness.lags(), sessions, strict=True)
        ]
    return _as_values(behind, batch, sessions)


def _facts(
    conn: Connection, strategy: Strategy, batch: ComputedSessions, sessions: Sequence[date]
) -> dict[str, tuple[dict[date, int], dict[date, int], set[date]]]:
    """By feature: what it repeats, how far its events are behind, where it caught up."""
    stored = values.of_sessions(conn, strategy.strategy_id, sessions[0], sessions[-1], READ)
    complete = {run.session for run in batch.runs}
    days = set(batch.days)
    facts: dict[str, tuple[dict[date, int], dict[date, int], set[date]]] = {}
    kept = [
        v for v in stored if v.session not in (days if v.dimension in NEVER_IN_STEP else complete)
    ]
    for v in kept + batch.values:
        if v.metric in READ and v.dimension and v.value:
            repeats, behind, right = facts.setdefault(v.dimension, ({}, {}, set()))
            if v.metric == "caught_up":
                right.add(v.session)
            else:
                (repeats if v.metric == "repeats" else behind)[v.session] = int(v.value)
    return facts


def _follow_features(lateness: Lateness, behind: Mapping[str, Sequence[int]]) -> None:
    """Signals that were made from late features are right when all of these are."""
    for index, session in enumerate(lateness.sessions):
        before = any(lags[index - 1] for lags in behind.values()) if index else False
        if before and not any(lags[index] for lags in behind.values()):
            lateness.right.add(session)


def _look_for_repairs(
    conn: Connection,
    strategy: Strategy,
    batch: ComputedSessions,
    feature: str,
    lateness: Lateness,
    others: Sequence[str],
) -> None:
    """Look, at each computed session at which a feature is late, whether it is right again."""
    if feature in NEVER_IN_STEP or not feature_values.exist(conn):
        return
    complete = {run.session: run for run in batch.runs}
    witnesses: dict[tuple[date, int], catching_up.Witness] = {}
    for index, session in enumerate(lateness.sessions):
        if session not in complete or session in lateness.repeats:
            continue
        if lateness.lags()[index] and session not in lateness.right:
            since = lateness.onset(index)
            step = lateness.repeats.get(lateness.sessions[since], 0)
            if not 0 < step <= since:
                continue
            repeated, late = lateness.sessions[since - step], lateness.sessions[since]
            known_by = complete[session].as_of
            lag, is_feature = lateness.lags()[index], feature != PREDICTIONS
            if (late, lag) not in witnesses:
                witnesses[late, lag] = catching_up.Witness.read(
                    conn, strategy, feature, others, late, lag
                )
            if (
                is_feature and _is_corrected(conn, strategy, feature, repeated, late, known_by)
            ) or witnesses[late, lag].is_in_step(conn, strategy, session, index - since):
                lateness.right.add(session)
                batch.values.append(Value(session, "caught_up", feature, 1.0, 1, "ok"))


def _is_corrected(
    conn: Connection,
    strategy: Strategy,
    feature: str,
    repeated: date,
    late: date,
    known_by: datetime,
) -> bool:
    """Whether a late session no longer has the values of the session that it repeated."""
    served, now = observing.observe_all(conn, strategy, [repeated, late], Champions(conn))
    windows = [
        observing.window(served, strategy.calendar),
        observing.window(now, strategy.calendar, known_by=known_by),
    ]
    for sample in feature_values.samples(conn, windows, [feature_values.base(feature)]):
        if sample.feature == feature:
            before, after = (sample.sections[window.session] for window in windows)
            share = unchanged(
                prints(before.entities, before.known), prints(after.entities, after.known)
            )
            return share <= SAME
    return False


def _as_values(
    behind: Mapping[str, Sequence[int]], batch: ComputedSessions, sessions: Sequence[date]
) -> list[Value]:
    start = sessions.index(batch.days[0])
    result = []
    for index in range(start, len(sessions)):
        session, lags = sessions[index], {name: lags[index] for name, lags in behind.items()}
        result += [Value(session, METRIC, n, float(lag), lag, "ok") for n, lag in lags.items()]
        worst = max(lags.values(), default=0)
        result.append(Value(session, METRIC, "", float(worst), len(lags), "ok"))
        late = [
            f"{name} {lag} session{'s' * (lag > 1)} behind" for name, lag in lags.items() if lag
        ]
        if late:
            batch.notes[METRIC, session] = ", ".join(late)
    return result


def earlier_sessions(calendar: TradingCalendar, session: date, count: int) -> list[date]:
    """The sessions before one, the nearest first."""
    return [calendar.session_offset(session, -step) for step in range(1, count + 1)]
