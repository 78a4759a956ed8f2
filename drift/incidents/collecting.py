"""Collects the answers to every question about an incident, and puts them together.

A question that fails gives a line with the reason, and stops no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timezone
from typing import TypeVar

from mlflow_timescale.common import logs
from mlflow_timescale.common.text import one_line
from mlflow_timescale.db import Connection, Error, load

from ..alerts import lifecycle
from ..alerts.lifecycle import Alert
from ..alerts.rules import Rule
from ..computation.history import History
from ..results.references import References
from ..serving import memory
from ..skew.reconciliation import Reconciliation, reconcile
from . import causes, checks, effects
from .answers import Answers
from .causes import Cause
from .decisions import Circumstances, decisions
from .evidence import Unanswered
from .explanation import Explanation
from .nearby import Nearby, read_changes
from .onset import Decay
from .questions import IncidentQuestions
from .replay import Replay
from .versions import DIFFERS, ServedVersions

__all__ = ["explain"]

_queries = load("drift")
_questions = load("incidents")
logger = logs.logger(__name__)
Answer = TypeVar("Answer")

QUARTER = 63  # sessions that are explained by default
BEFORE = 21  # sessions before the first sign of a fault
MOST = 250  # sessions that are explained by default at most
REPLAYS = 2


@dataclass
class _Asked:
    """The questions so far, and those that failed."""

    unanswered: list[Unanswered] = field(default_factory=list)

    def __call__(self, question: str, answer: Callable[[], Answer]) -> Answer | None:
        try:
            return answer()
        except Exception as exc:  # whatever stops one question must not stop the others
            logger.debug("no answer to %r", question, exc_info=True)
            text = one_line(exc) or type(exc).__name__
            kind = "" if isinstance(exc, Error) else f"{type(exc).__name__}: "
            self.unanswered.append(Unanswered(question, f"{kind}{text}"))
            return None


@dataclass(frozen=True)
class _State:
    """What is stored: the series, the alerts, the first and last session that was served."""

    history: History
    alerts: Sequence[Alert]
    served: tuple[date, date] | None

    @property
    def first(self) -> date | None:
        """The first session that was computed or served."""
        return min([*self.history.sessions[:1], *(self.served or ())], default=None)

    @property
    def last(self) -> date | None:
        """The last session that was computed or served."""
        return max([*self.history.sessions[-1:], *(self.served or ())], default=None)

    def judged(self, end: date) -> date | None:
        """The last computed session up to a date."""
        return max((day for day in self.history.computed if day <= end), default=None)

    def series(self, start: date, end: date) -> tuple[list[date], list[float]]:
        """The sessions of a range, and their rank IC."""
        numbered = enumerate(self.history.sessions)
        known = [(number, day) for number, day in numbered if start <= day <= end]
        ic = self.history.of("ic")
        return [day for _, day in known], [float(ic[number]) for number, _ in known]


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
    last = _last(monitor, state, start, end)
    if start is not None:
        start = monitor.calendar.date_to_session(start, "next")
    ask = _Asked()
    decay = _relevant(ask(checks.ONSET, monitor.onset), start, last)
    judged = state.judged(last)
    then = _open(state.alerts, strategy.judging, judged) if judged else []
    first, window = _window(monitor, start, last, _signs(then), decay)
    skew = ask(checks.INPUTS, lambda: _skew(monitor, first, last, now))
    versions = ask(checks.VERSIONS, lambda: monitor.served_versions(first, last))
    replays = _replays(monitor, ask, skew, versions)
    answers = Answers(skew, versions, decay, replays, then)
    found = causes.of_answers(answers)
    days, ic = state.series(first, last)
    level = effects.level(state.history, last)
    main = causes.main(found)
    changes = ask(checks.CHANGES, lambda: _changes(monitor, main, answers, last))
    return Explanation(
        strategy.strategy_id,
        first,
        last,
        window,
        moment,
        len(monitor.calendar.sessions_in_range(first, last)),
        found,
        decisions(found, _circumstances(monitor, last, moment, answers)),
        (*lifecycle.loud(then), *lifecycle.handled(then)),
        tuple(_resolved(state.alerts, first, last)),
        tuple(effects.effects(state.history, strategy.judging, main, (first, last))),
        skew,
        versions,
        decay,
        replays,
        changes.changes if changes else (),
        tuple(checks.checked(answers, main, changes, ic, level)),
        (*ask.unanswered, *checks.unknown(answers, level)),
        days,
        ic,
        level,
    )


def _last(monitor: IncidentQuestions, state: _State, start: date | None, end: date | None) -> date:
    """The last session to look at. Raises Error where none was computed or served until then."""
    known = state.first, state.last
    name = monitor.strategy_id
    if known[0] is None or known[1] is None:
        raise Error(f"nothing to explain: no session of {name!r} was served or computed")
    last = known[1]
    if end is not None:
        last = min(last, monitor.calendar.date_to_session(end, "previous"))
    if last < known[0] or (start is not None and start > last):
        raise Error(
            f"nothing to explain: the sessions of {name!r} that were served or computed are from "
            f"{known[0]} to {known[1]}"
        )
    return last


def _read(conn: Connection, monitor: IncidentQuestions) -> _State:
    strategy = monitor.strategy
    references = References(conn, strategy.strategy_id)
    history = History.read(conn, strategy, references, metrics=effects.METRICS)
    alerts = lifecycle.find(conn, strategy.strategy_id)
    row = {"strategy_id": strategy.strategy_id}
    first, last = conn.execute(_questions.served_span, row).fetchone() or (None, None)
    return _State(history, alerts, (first, last) if first is not None else None)


def _relevant(decay: Decay | None, start: date | None, end: date) -> Decay | None:
    """The fall of the IC as it was known at the end; None if it was not, or was over before."""
    if decay is None or decay.seen > end:
        return None
    if decay.recovered is not None and decay.recovered > end:
        return replace(decay, onset=replace(decay.onset, until=None))
    return None if start and decay.recovered and decay.recovered < start else decay


def _open(alerts: Sequence[Alert], rules: Sequence[Rule], session: date) -> list[Alert]:
    """The alerts of a session, but for those that a later acceptance took back."""
    kept = [alert for alert in alerts if alert.note != lifecycle.ACCEPTED]
    return lifecycle.as_of(kept, rules, session)


def _signs(alerts: Sequence[Alert]) -> list[date]:
    """When the open alerts began that are more than a warning."""
    return [alert.session for alert in alerts if alert.severity != "warning"]


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
    earliest = min([*signs, *lasting], default=end)
    first = calendar.session_offset(calendar.date_to_session(earliest, "previous"), -BEFORE)
    if first >= quarter:
        return quarter, f"the last {QUARTER} sessions"
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
        replay = ask(checks.REPLAYED, lambda e=entity, s=session: monitor.replay(e, s))  # type: ignore[misc]
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


def _circumstances(
    monitor: IncidentQuestions, end: date, now: datetime, answers: Answers
) -> Circumstances:
    parts = answers.versions.intervals if answers.versions is not None else ()
    named = [part.served for part in parts if part.model_version]
    alerts = lifecycle.loud(answers.alerts)
    return Circumstances(monitor.strategy_id, end, now, alerts, named[-1] if named else "")


def _resolved(alerts: Sequence[Alert], start: date, end: date) -> Iterator[Alert]:
    for alert in alerts:
        was_so = alert.note not in (lifecycle.REVISED_AWAY, lifecycle.ACCEPTED)
        resolved = alert.resolved_session
        if was_so and resolved is not None and start <= resolved <= end:
            yield alert


def _changes(
    monitor: IncidentQuestions, main: Cause | None, answers: Answers, end: date
) -> Nearby | None:
    """What changed shortly before the main fault, or around the onset of a fall of the IC."""
    if main is None:
        return None
    if main.kind == "decay" and answers.decay is not None:
        return Nearby(answers.decay.changes, answers.decay.unknown)
    start = monitor.calendar.session_offset(main.first, -BEFORE)
    names = [feature.feature for feature in answers.skew.features] if answers.skew else []
    with monitor.connect() as conn:
        return read_changes(conn, monitor.strategy, (start, main.first), names, end)
