"""How far each rule is from opening: its statistic, its limit, what one bad session can do.

A value within its limit is no reason for calm if the next bad session breaks it. A bad session is
one in twenty: the 95% point of the statistic's own changes towards the limit, from one session to
the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .rules import SEVERITIES, Evaluation, Rule, RuleStates

__all__ = ["Headroom", "headroom", "nearest"]

LOOKED_BACK = 250  # sessions whose changes count
LEAST_CHANGES = 20
BAD = 0.95
_SIDES = {"<": "below", "<=": "from", ">": "above", ">=": "from"}


@dataclass(frozen=True)
class Headroom:
    """One rule at one session.

    Attributes
    ----------
    rule
        The rule; its limit is `rule.threshold`.
    value
        Its statistic at the session; None where there is none.
    open
        Whether its alert is open.
    breaches
        Consecutive sessions on which the condition has held so far.
    sessions_away
        After how many bad sessions the alert opens: 0 if it is open, None if one bad session is not
        enough to break the limit.
    """

    rule: Rule
    value: float | None
    open: bool
    breaches: int
    sessions_away: int | None

    @property
    def text(self) -> str:
        """The limit in words, for a figure's bracket.

        >>> rule = Rule("ic drift", "ic", ">", 6.0, statistic="cusum")
        >>> Headroom(rule, 5.5, False, 0, 1).text
        'warning above 6, one bad session away'
        """
        limit = f"{self.rule.severity} {_SIDES[self.rule.comparison]} {self.rule.threshold:g}"
        if self.rule.statistic == "absent":
            plural = "" if self.rule.threshold == 1 else "s"
            limit = (
                f"{self.rule.severity} from {self.rule.threshold:g} session{plural} without a value"
            )
        if self.rule.sessions > 1:
            limit += f" on {self.rule.sessions} sessions"
        if self.open:
            return f"{limit}: open"
        if self.sessions_away is None:
            return limit
        return f"{limit}, {_away(self.sessions_away)} away"


def headroom(evaluation: Evaluation, session: int = -1) -> list[Headroom]:
    """Every rule at one session, of an evaluation of series of one dimension.

    >>> from .rules import evaluate
    >>> halt = Rule("halt", "ic", "<", 0.0)
    >>> [room] = headroom(evaluate([halt], {"ic": [0.05, 0.02] * 20}))
    >>> room.value, room.sessions_away
    (0.02, 1)
    """
    return [_of(states, session) for states in evaluation.states.values()]


def nearest(rooms: Iterable[Headroom]) -> Headroom | None:
    """The rule that opens first if bad sessions follow; None if one is not enough for any.

    Of several at the same distance, the most severe.
    """
    near = [room for room in rooms if not room.open and room.sessions_away is not None]
    order = {name: -at for at, name in enumerate(SEVERITIES)}
    return min(near, key=lambda r: (r.sessions_away or 0, order[r.rule.severity]), default=None)


def _of(states: RuleStates, session: int) -> Headroom:
    end = len(states.statistic) + session + 1 if session < 0 else session + 1
    statistic = states.statistic[:end]
    known = statistic[np.isfinite(statistic)]
    value = float(statistic[-1]) if len(statistic) and np.isfinite(statistic[-1]) else None
    is_open = bool(len(statistic) and states.open[end - 1])
    breaches = _streak(states, end)
    away = 0 if is_open else _sessions_away(states.rule, known, breaches)
    return Headroom(states.rule, value, is_open, breaches, away)


def _streak(states: RuleStates, end: int) -> int:
    has_value = np.isfinite(states.statistic[:end])
    breached = states.breached[:end][has_value]
    calm = np.flatnonzero(~breached)
    return len(breached) - (int(calm[-1]) + 1 if len(calm) else 0)


def _sessions_away(rule: Rule, known: np.ndarray, breaches: int) -> int | None:
    if not len(known) or rule.statistic == "absent":
        return None
    left = max(rule.sessions - breaches, 1)
    if breaches:
        return left
    changes = np.diff(known[-LOOKED_BACK - 1 :])
    if len(changes) < LEAST_CHANGES:
        return None
    direction = -1.0 if rule.comparison.startswith("<") else 1.0
    step = float(np.quantile(direction * changes, BAD))
    after_a_bad_session = known[-1] + direction * max(step, 0.0)
    return left if step > 0 and bool(rule.breached(np.array(after_a_bad_session))) else None


def _away(sessions: int) -> str:
    return "one bad session" if sessions == 1 else f"{sessions} bad sessions"
