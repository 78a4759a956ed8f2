"""Collects the answers to every question about an incident, and puts them together.

A question that fails gives a line with the reason, and stops no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from typing import TypeVar

import numpy as np

from mlflow_timescale.common import logs
from mlflow_timescale.db import Connection, Error, load

from ..alerts import lifecycle
from ..alerts.lifecycle import Alert
from ..alerts.rules import Rule
from ..computation.history import History
from ..results.references import References
from ..serving import memory
from ..skew.reconciliation import Reconciliation, reconcile
from ..skew.sentences import counted
from . import causes, effects
from .causes import Cause
from .decisions import Circumstances, decisions
from .evidence import Unanswered
from .explanation import Explanation
from .onset import Decay, NearbyChange
from .questions import IncidentQuestions
from .replay import Replay
from .versions import AGREES, DIFFERS, NO_VERSION, UNKNOWN, ServedVersions

__all__ = ["explain"]

_queries = load("drift")
logger = logs.logger(__name__)
Answer = TypeVar("Answer")

QUARTER = 63  # sessions that are explained by default
BEFORE = 10  # sessions before the first sign of a fault
MOST = 250  # sessions that are explained by default at most
REPLAYS = 2
INPUTS = "Were the live inputs those of research?"
VERSIONS = "Which version ran, and which should have?"
REPLAYED = "Does a replay reproduce what was served?"


@dataclass
class _Asked:
    """The questions so far, and those that failed."""

    unanswered: list[Unanswered] = field(default_factory=list)

    def __call__(self, question: str, answer: Callable[[], Answer]) -> Answer | None:
        try:
            return answer()
        except Exception as exc:  # whatever stops one question must not stop the others
            logger.debug("no answer to %r", question, exc_info=True)
            text = " ".join(str(exc).split()) or type(exc).__name__
            kind = "" if isinstance(exc, Error) else f"{type(exc).__name__}: "
            self.unanswered.append(Unanswered(question, f"{kind}{text}"))
            return None


@dataclass(frozen=True)
class _State:
    """What the monitor has stored: the series, the alerts, the last session that was served."""

    history: History
    alerts: Sequence[Alert]
    served: date | None

    @property
    def last(self) -> date | None:
        """The last session that was computed or served."""
        days = [*self.history.sessions[-1:], *([self.served] if self.served else [])]
        return max(days, default=None)

    def judged(self, end: date) -> date | None:
        """The last computed session up to a date."""
        return max((day for day in self.history.computed if day <= end), default=None)


def explain(
    monitor: IncidentQuestions,
    start: date | None = None,
    end: date | None = None,
    *,
    now: datetime | None = None,
) -> Explanation:
    """Everything about the sessions from `start` to `end`; by default around what is wrong now.

    Raises Error if no session was computed, and none served.
    """
    moment, strategy = now or datetime.now(timezone.utc), monitor.strategy
    with monitor.connect() as conn:
        state = _read(conn, monitor)
    last = end or state.last
    if last is None:
        raise Error(
            f"nothing to explain: no session of {strategy.strategy_id!r} was served or computed"
        )
    ask = _Asked()
    decay = _relevant(ask("Since when is the IC low?", monitor.onset), start, last)
    judged = state.judged(last)
    then = _open(state.alerts, strategy.rules, judged) if judged else []
    first, window = _window(monitor, start, last, _signs(then), decay)
    skew = ask(INPUTS, lambda: _skew(monitor, first, last, now))
    versions = ask(VERSIONS, lambda: monitor.served_versions(first, last))
    replays = _replays(monitor, ask, skew, versions)
    found = _causes(skew, versions, replays, decay, then)
    days = [day for day in state.history.sessions if first <= day <= last]
    position = {day: number for number, day in enumerate(state.history.sessions)}
    ic = [float(state.history.of("ic")[position[day]]) for day in days]
    level = effects.level(state.history, last)
    return Explanation(
        strategy.strategy_id,
        first,
        last,
        window,
        moment,
        len(monitor.calendar.sessions_in_range(first, last)),
        found,
        decisions(found, _circumstances(monitor, last, moment, then, versions)),
        (*lifecycle.loud(then), *lifecycle.handled(then)),
        tuple(_resolved(state.alerts, first, last)),
        tuple(effects.effects(state.history, strategy.rules, _main(found), (first, last))),
        skew,
        versions,
        decay,
        replays,
        _changes(decay),
        tuple(_checked(skew, versions, replays, decay, then, ic, level)),
        (*ask.unanswered, *_unknown(skew, versions, replays)),
        days,
        ic,
        level,
    )


def _read(conn: Connection, monitor: IncidentQuestions) -> _State:
    strategy = monitor.strategy
    references = References(conn, strategy.strategy_id)
    history = History.read(conn, strategy, references, metrics=effects.METRICS)
    alerts = lifecycle.find(conn, strategy.strategy_id)
    return _State(history, alerts, memory.last_session(conn, strategy.strategy_id))


def _relevant(decay: Decay | None, start: date | None, end: date) -> Decay | None:
    """The fall of the IC, unless it began after the range, or was over before."""
    if decay is None or decay.first > end:
        return None
    return None if start and decay.recovered and decay.recovered < start else decay


def _open(alerts: Sequence[Alert], rules: Sequence[Rule], session: date) -> list[Alert]:
    """The alerts of a session, but for those that a later acceptance took back."""
    kept = [alert for alert in alerts if alert.note != lifecycle.ACCEPTED]
    return lifecycle.as_of(kept, rules, session)


def _signs(alerts: Sequence[Alert]) -> list[date]:
    """When the open alerts began that are more than a warning."""
    return [alert.session for alert in alerts if alert.severity != "warning"]


def _main(found: Sequence[Cause]) -> Cause | None:
    return next((cause for cause in found if cause.severity != causes.NOTE), None)


def _window(
    monitor: IncidentQuestions,
    start: date | None,
    end: date,
    signs: Sequence[date],
    decay: Decay | None,
) -> tuple[date, str]:
    """The first session to look at, and why it is that one."""
    calendar = monitor.calendar
    if start is not None:
        return start, "as asked"
    quarter = calendar.session_offset(end, -QUARTER + 1)
    lasting = [decay.interval[0]] if decay is not None and decay.recovered is None else []
    earliest = min([*signs, *lasting], default=quarter)
    if earliest >= quarter:
        return quarter, f"the last {QUARTER} sessions"
    first = calendar.session_offset(earliest, -BEFORE)
    limit = calendar.session_offset(end, -MOST + 1)
    if first < limit:
        return limit, f"the last {MOST} sessions; give START and END for earlier ones"
    return first, f"from {BEFORE} sessions before the first sign of a fault on"


def _skew(
    monitor: IncidentQuestions, start: date, end: date, now: datetime | None
) -> Reconciliation:
    with monitor.connect() as conn:
        removed = memory.removed_before(conn)
        first = start if removed is None else max(start, removed)
        if first > end:
            memory.refuse_removed(conn, start)
        return reconcile(conn, monitor.strategy, first, end, now=now)


def _replays(
    monitor: IncidentQuestions,
    ask: _Asked,
    skew: Reconciliation | None,
    versions: ServedVersions | None,
) -> tuple[Replay, ...]:
    """Some predictions made again: one with a wrong input, one of a wrong version, the last."""
    if skew is None or not skew.cells:
        return ()
    done: list[Replay] = []
    for session, entity in list(dict.fromkeys(_predictions(monitor, skew, versions)))[:REPLAYS]:
        replay = ask(REPLAYED, lambda e=entity, s=session: monitor.replay(e, s))  # type: ignore[misc]
        if replay is not None:
            done.append(replay)
    return tuple(done)


def _predictions(
    monitor: IncidentQuestions,
    skew: Reconciliation,
    versions: ServedVersions | None,
) -> Iterator[tuple[date, str]]:
    for feature in skew.features:
        for found in feature.findings:
            if found.is_fault:
                yield found.examples[-1].session, found.examples[-1].entity
                break
    days = (
        [part.first for part in versions.intervals if part.verdict == DIFFERS] if versions else []
    )
    with monitor.connect() as conn:
        for day in [*days[-1:], max(skew.cells_by_session)]:
            row = {
                "strategy_id": monitor.strategy_id,
                "signal": monitor.strategy.signal,
                "session": day,
                "names": 1,
            }
            yield from ((day, name) for [name] in conn.execute(_queries.names_predicted, row))


def _causes(
    skew: Reconciliation | None,
    versions: ServedVersions | None,
    replays: Sequence[Replay],
    decay: Decay | None,
    alerts: Sequence[Alert],
) -> tuple[Cause, ...]:
    found: list[Cause] = []
    if skew is not None:
        found += causes.of_skew(skew)
    if versions is not None:
        found += causes.of_versions(versions)
    found += causes.of_replays(replays)
    if decay is not None:
        found.append(causes.of_decay(decay, alerts))
    found += causes.of_alerts(alerts, found)
    return causes.ordered(found)


def _circumstances(
    monitor: IncidentQuestions,
    end: date,
    now: datetime,
    alerts: Sequence[Alert],
    versions: ServedVersions | None,
) -> Circumstances:
    named = [part.served for part in versions.intervals if part.model_version] if versions else []
    return Circumstances(
        monitor.strategy_id,
        end,
        now,
        tuple(alert for alert in lifecycle.loud(alerts)),
        named[-1] if named else "",
    )


def _resolved(alerts: Sequence[Alert], start: date, end: date) -> Iterator[Alert]:
    for alert in alerts:
        was_so = alert.note not in (lifecycle.REVISED_AWAY, lifecycle.ACCEPTED)
        resolved = alert.resolved_session
        if was_so and resolved is not None and start <= resolved <= end:
            yield alert


def _changes(decay: Decay | None) -> tuple[NearbyChange, ...]:
    return decay.changes if decay is not None else ()


def _checked(
    skew: Reconciliation | None,
    versions: ServedVersions | None,
    replays: Sequence[Replay],
    decay: Decay | None,
    alerts: Sequence[Alert],
    ic: Sequence[float],
    level: float | None,
) -> Iterator[str]:
    """A sentence for each question that found nothing."""
    if skew is not None and skew.cells and skew.agrees:
        compared = counted(sum(feature.cells for feature in skew.features), "served cell")
        yield (
            f"Inputs: {compared} ({counted(len(skew.features), 'feature')}, "
            f"{counted(skew.sessions, 'session')}, {counted(skew.entities, 'name')}) agree with "
            f"{', '.join(sorted({feature.source for feature in skew.features}))}."
        )
    if versions is not None and versions.agrees and any(_compared(versions)):
        yield f"Version: {' '.join(versions.lines())}"
    if replays and all(replay.agrees for replay in replays):
        names = ", ".join(f"{replay.entity} on {replay.session}" for replay in replays)
        yield f"Replay: {names}: the model gives the recorded output."
    if decay is None and level is not None:
        known = [value for value in ic if np.isfinite(value)]
        mean = f"; mean of {counted(len(known), 'session')} {np.mean(known):.3f}" if known else ""
        yield f"IC: it has not left its accepted level of {level:.3f}{mean}."
    if not alerts and ic:
        yield "Alerts: none is open."


def _compared(versions: ServedVersions) -> Iterator[bool]:
    return (part.verdict == AGREES for part in versions.intervals)


def _unknown(
    skew: Reconciliation | None, versions: ServedVersions | None, replays: Sequence[Replay]
) -> Iterator[Unanswered]:
    """Questions that were asked, and that the records cannot answer."""
    if skew is not None and not skew.cells:
        yield Unanswered(
            INPUTS,
            "no served value is recorded in these sessions; live code records them with "
            "`mlflow_timescale.Serving`",
        )
    if versions is not None and not any(
        part.verdict not in (UNKNOWN, NO_VERSION) for part in versions.intervals
    ):
        yield Unanswered(VERSIONS, " ".join(versions.lines()))
    refused = [r for r in replays if r.outcome == "refused" and r.obstacle not in causes.CHANGED]
    for reason in dict.fromkeys(replay.reason for replay in refused):
        names = ", ".join(f"{r.entity} on {r.session}" for r in refused if r.reason == reason)
        yield Unanswered(REPLAYED, f"{names}: {reason}")
