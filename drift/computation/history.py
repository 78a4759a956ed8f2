"""All sessions of a strategy as arrays: what rules, reports and simulations read."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np

from mlflow_timescale.db import Connection

from ..alerts.rules import Evaluation, Flags, Rule, evaluate
from ..metrics.arrays import Floats
from ..metrics.cusum import Baseline
from ..metrics.spread import is_rounding
from ..results import values
from ..results.references import References
from ..results.values import Value
from ..strategies import Strategy
from .session_values import NOTHING_DUE

LEAST_GAPS = 5  # signals from which it is known how often a strategy signals
COUNTS = ("n_signals", "n_returns", "n_features", "n_versions")


@dataclass
class History:
    """Values without a dimension, over all sessions: the stored ones under the new ones.

    `computed` are the sessions that were looked at, `levels` the accepted level of the IC at each,
    `windows` the positions of the window that judges each, None without one.
    """

    sessions: Sequence[date]
    computed: set[date]
    levels: Sequence[Baseline | None]
    arrays: dict[str, Floats]
    n_ic: Floats
    nothing_due: set[tuple[str, date]]
    windows: Sequence[slice | None] = ()

    @classmethod
    def read(
        cls,
        conn: Connection,
        strategy: Strategy,
        references: References,
        days: Sequence[date] = (),
        metrics: Sequence[str] = (),
    ) -> History:
        """Read what the rules and `metrics` need, of all sessions computed and of `days`."""
        computed = {run.session for run in values.runs(conn, strategy.strategy_id)} | set(days)
        sessions = (
            strategy.calendar.sessions_in_range(min(computed), max(computed)) if computed else []
        )
        levels = [_level(references, session) for session in sessions]
        windows = _windows(references, sessions)
        history = cls(
            sessions, computed, levels, {}, np.full(len(sessions), np.nan), set(), windows
        )
        metric_names = {rule.metric for rule in strategy.judging} | {"ic", "n_signals", *metrics}
        if sessions:
            selection = (sessions[0], sessions[-1], sorted(metric_names), [""])
            history.add(values.of_sessions(conn, strategy.strategy_id, *selection))
        return history

    def add(self, found: Sequence[Value]) -> None:
        for v in found:
            # A correction of the calendar may have removed a session that was computed.
            if v.dimension or v.status == "withdrawn" or v.session not in self._position:
                continue
            index = self._position[v.session]
            self.of(v.metric)[index] = np.nan if v.value is None else v.value
            if v.metric == "ic":
                self.n_ic[index] = v.n
            if v.status == NOTHING_DUE:
                self.nothing_due.add((v.metric, v.session))

    def of(self, metric: str) -> Floats:
        """One metric, shape (sessions,), NaN where there is no value."""
        if metric not in self.arrays:
            self.arrays[metric] = np.full(len(self.sessions), np.nan)
        return self.arrays[metric]

    @cached_property
    def _position(self) -> dict[date, int]:
        return {session: index for index, session in enumerate(self.sessions)}

    def judge(self, rules: Sequence[Rule]) -> Evaluation:
        """Evaluate the rules over all sessions."""
        return evaluate(rules, self.presented(), {"ic": self.levels})

    def presented(self) -> dict[str, Floats]:
        """The series as rules see them."""
        return {name: self._present(name, array) for name, array in self.arrays.items()}

    def _present(self, metric: str, array: Floats) -> Floats:
        """A count without absences where nothing was due, or that were not computed.

        Predictions are due from the first session on; anything else once it was there.
        """
        if metric not in COUNTS:
            return array
        if metric != "n_signals" and not np.isfinite(array).any():
            return np.ones_like(array)
        first = int(np.argmax(np.isfinite(array)))
        unasked = np.array(
            [
                index < first or day not in self.computed or (metric, day) in self.nothing_due
                for index, day in enumerate(self.sessions)
            ],
            dtype=bool,
        )
        if metric == "n_signals":
            unasked |= self._between_signals(array)
        return np.where(unasked, 1.0, array)

    def _between_signals(self, n_signals: Floats) -> Flags:
        """The sessions without a signal of a strategy that does not signal in every session.

        Nine of ten gaps between two signals of the reference are the usual ones.
        """
        signalled = np.flatnonzero(n_signals > 0)
        window = self.windows[-1] if len(self.windows) else None
        habit = signalled
        if window is not None:
            habit = signalled[(signalled >= window.start) & (signalled < window.stop)]
        if len(habit) < LEAST_GAPS:
            return np.zeros(len(n_signals), dtype=bool)
        usual = int(np.quantile(np.diff(habit), 0.9, method="lower"))
        positions = np.arange(len(n_signals))
        last = np.maximum.accumulate(np.where(n_signals > 0, positions, -usual))
        return np.asarray(positions - last < usual)


def _windows(references: References, sessions: Sequence[date]) -> list[slice | None]:
    judging = [references.at(session) for session in sessions]
    positions = {
        window.reference_id: slice(
            bisect_left(sessions, window.window_start), bisect_right(sessions, window.window_end)
        )
        for window in references.judging
    }
    return [None if window is None else positions[window.reference_id] for window in judging]


def _level(references: References, session: date) -> Baseline | None:
    """The accepted level that judges a session's IC; none within the window itself."""
    window = references.at(session)
    if window is None or session <= window.window_end:
        return None
    if window.ic_mean is None or window.ic_sd is None:
        return None
    if is_rounding(window.ic_sd, window.ic_mean):
        return None
    return Baseline(window.ic_mean, window.ic_sd, window.ic_n)
