"""Whether returns are plausible in size and dated by the signal's session; the signals' turnover.

`of_session` takes one session and the one before it; `dating` follows from the series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date

import numpy as np

from ..inputs.signals_and_returns import Observed, align
from ..metrics import ic
from ..metrics.arrays import Floats
from ..metrics.plausible_returns import LARGEST_RETURN
from ..metrics.spread import mean_and_sd
from ..metrics.turnover import turnover
from ..results.values import Value

SHIFTED = ("ic_earlier", "ic_later")
NAMED = 5  # implausible returns of a session that are stored by name
DATED_OVER = 250  # sessions
DATED_AT_LEAST = 20
CLEARLY = 4.0  # standard errors: once in 30,000 series of a strategy whose returns are dated right

Names = Callable[[list[int]], dict[int, str]]


def of_session(observed: Observed, before: Observed, min_n: int, names: Names) -> Iterator[Value]:
    """The largest implausible returns by name, and the IC with returns of another session.

    "ic_earlier" pairs the session's signals with the returns of the session before, "ic_later" the
    signals of the session before with the session's returns. `names` gives names by number.
    """
    yield from _implausible(observed, names)
    yield from _shifted(observed, before, min_n)
    yield from _turnover(observed, before)


def _implausible(observed: Observed, names: Names) -> Iterator[Value]:
    for horizon, returns in observed.returns.items():
        large = np.flatnonzero(np.abs(returns.values) > LARGEST_RETURN * horizon**0.5)
        if not len(large):
            continue
        worst = large[np.argsort(-np.abs(returns.values[large]), kind="stable")][:NAMED]
        by_number = names(returns.entities[worst].tolist())
        for at in worst.tolist():
            name = by_number.get(int(returns.entities[at]), "")
            value = float(returns.values[at])
            label = name if horizon == 1 else f"{name} h{horizon}"
            yield Value(observed.session, "implausible_return", label, value, len(large), "ok")


def _shifted(observed: Observed, before: Observed, min_n: int) -> Iterator[Value]:
    pairs = ((observed, before), (before, observed))
    for metric, (signals, returned) in zip(SHIFTED, pairs, strict=True):
        signal = signals.primary
        returns = returned.returns.get(signal.horizon) if signal else None
        if signal is None or returns is None:
            continue
        values = align(signal.entities, returns.entities, returns.values)
        result = ic.rank_ic(signal.values, values, min_n)
        if result.value is not None:
            yield Value(observed.session, metric, "", result.value, result.n, "ok")


def _turnover(observed: Observed, before: Observed) -> Iterator[Value]:
    now, old = observed.primary, before.primary
    if now is None or old is None:
        return
    names = np.union1d(now.entities, old.entities)
    signals = [align(names, signal.entities, signal.values) for signal in (old, now)]
    share = turnover(*signals)
    if np.isfinite(share):
        yield Value(observed.session, "turnover", "", share, len(names), "ok")


def dating(
    sessions: Sequence[date], series: Floats, shifted: dict[str, Floats], start: int
) -> Iterator[Value]:
    """By how much the IC is clearly larger one session earlier or later, from session `start` on.

    `series` and each of `shifted` have shape (sessions,). Clearly: the mean of the difference over
    the last 250 sessions is beyond 4 standard errors, and so is the mean of the shifted IC.
    """
    for metric, other in shifted.items():
        for index in range(start, len(sessions)):
            window = slice(max(index + 1 - DATED_OVER, 0), index + 1)
            pairs = np.isfinite(series[window]) & np.isfinite(other[window])
            moved = other[window][pairs]
            if _clearly_positive(moved - series[window][pairs]) and _clearly_positive(moved):
                mean, n = float(moved.mean()), len(moved)
                yield Value(sessions[index], "ic_dating", metric.removeprefix("ic_"), mean, n, "ok")


def _clearly_positive(values: Floats) -> bool:
    if len(values) < DATED_AT_LEAST:
        return False
    mean, sd = mean_and_sd(values)
    return bool(mean > CLEARLY * sd / len(values) ** 0.5)
