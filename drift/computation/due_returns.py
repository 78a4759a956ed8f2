"""What the returns that were due at a session look like, beside those of the reference.

`of_session` describes the returns that followed a session's signals. The rules judge them at the
session on which they were due (`at_due_sessions`): the session of the signals itself has none yet
when it is computed, and would close every alert.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date

import numpy as np

from ..inputs.signals_and_returns import Observed, Returns, align
from ..metrics.arrays import Floats
from ..metrics.feed_quality import (
    Habits,
    Prints,
    Shares,
    magnitude,
    prints,
    unchanged,
    unit_shift,
)
from ..metrics.spread import is_constant
from ..results.values import Value
from .lateness import SAME
from .session_values import NOTHING_DUE, SessionSeries, usual

RETURNS = "returns"  # the dimension under which returns are watched beside features
STORED = ("return_size", "returns_alike", "returns_elsewhere")
MISSING, UNIT = "returns_missing", "returns_unit"
_NONE = Returns(np.empty(0, dtype=np.int64), np.empty(0))

Note = Callable[[str, date, str], None]


def of_session(observed: Observed, before: Observed) -> Iterator[Value]:
    """Size and sameness of the returns after a session's signals, and whether they are old ones.

    `before` is the session before: a feed that stands still, or is late, repeats its returns.
    """
    session, primary = observed.session, observed.primary
    if primary is None:
        return
    returns = observed.returns.get(primary.horizon, _NONE)
    values = align(primary.entities, returns.entities, returns.values)
    values = values[np.isfinite(values)]
    size = magnitude(values)
    known = bool(np.isfinite(size))
    status = "ok" if known else "no_data"
    yield Value(session, "return_size", "", size if known else None, len(values), status)
    alike = float(is_constant(values)) if len(values) > 1 else None
    yield Value(
        session, "returns_alike", "", alike, len(values), "no_data" if alike is None else "ok"
    )
    others = len(np.setdiff1d(returns.entities, primary.entities))
    yield Value(session, "returns_elsewhere", "", float(others), others, "ok")
    earlier = before.returns.get(primary.horizon, _NONE)
    share = unchanged(_prints(earlier), _prints(returns))
    yield Value(session, "repeats", RETURNS, float(share > SAME), len(values), "ok")


def _prints(returns: Returns) -> Prints:
    # Names whose price did not move are no repetition.
    moved = returns.values != 0
    return prints(returns.entities[moved], returns.values[moved])


def at_due_sessions(
    series: SessionSeries,
    stored: Mapping[str, Floats],
    min_n: int,
    start: int,
    note: Note,
) -> Iterator[Value]:
    """What the rules on returns watch, from session number `start` on; `note` keeps sentences.

    `stored` are the values of `of_session` by metric, shape (sessions,).
    """
    size, alike, elsewhere = (stored[metric] for metric in STORED)
    expected_names = np.where(series.n_signals > 0, series.n_signals, np.nan)
    share = series.n_ic / expected_names
    for index in range(start, len(series.sessions)):
        signalled, session = index - series.horizon, series.sessions[index]
        if signalled < 0 or not share[signalled] > 0:
            for metric in (MISSING, "few_returns", "constant_returns", UNIT):
                yield Value(session, metric, "", None, 0, NOTHING_DUE)
            if signalled >= 0 and elsewhere[signalled] > 0:
                n, day = int(elsewhere[signalled]), series.sessions[signalled]
                note("n_returns", session, f"{n} returns of {day} are of names without a signal")
            continue
        n, expected = int(series.n_ic[signalled]), int(series.n_signals[signalled])
        missing = _missing(series, share, signalled)
        if missing:
            note(MISSING, session, f"{n} of {expected} names of {series.sessions[signalled]}")
        yield Value(session, MISSING, "", missing, n, "ok")
        few = n < min_n <= expected
        if few:
            note("few_returns", session, f"{n} names, and an IC needs min_n {min_n}")
        yield Value(session, "few_returns", "", float(few), n, "ok")
        yield Value(session, "constant_returns", "", float(alike[signalled] == 1), n, "ok")
        yield _unit(series, size, signalled, session, note)


def _missing(series: SessionSeries, share: Floats, signalled: int) -> float:
    """The share of names without a return, of those that usually have one."""
    habit = usual(share, series.windows[signalled], signalled)
    return max(0.0, 1.0 - float(share[signalled]) / habit) if habit else 0.0


def _unit(series: SessionSeries, size: Floats, signalled: int, session: date, note: Note) -> Value:
    window = series.windows[signalled]
    if window is None or signalled < window.stop or not np.isfinite(size[signalled]):
        return Value(session, UNIT, "", None, 0, "no_data")
    habits = Habits.fit([Shares(0.0, magnitude=value) for value in size[window]])
    moved = unit_shift(float(size[signalled]), habits)
    if not np.isfinite(moved):
        return Value(session, UNIT, "", None, 0, "no_data")
    if moved:
        factor = 10 ** (float(size[signalled]) - (habits.magnitude or 0.0))
        day = series.sessions[signalled]
        note(UNIT, session, f"the returns of {day} are x{factor:.3g} of their usual size")
    return Value(session, UNIT, "", abs(moved), 1, "ok")


def repeated(sessions: Sequence[date], returns: Floats) -> dict[date, int]:
    """The sessions whose strategy return is that of the session before, as steps back.

    Returns of at most six decimals are left out: rounded, two may be equal by chance.

    >>> days = [date(2024, 1, day) for day in (2, 3, 4)]
    >>> repeated(days, np.array([0.01234567, 0.01234567, 0.01]))
    {datetime.date(2024, 1, 3): 1}
    """
    is_exact = np.abs(returns * 1e6 - np.round(returns * 1e6)) > 1e-3
    same = np.flatnonzero((returns[1:] == returns[:-1]) & is_exact[1:]) + 1
    return {sessions[index]: 1 for index in same.tolist()}
