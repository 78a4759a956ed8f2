"""What else a reader of a session's values should know: sentences, made from the values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..metrics.plausible_returns import LARGEST_RETURN, LARGEST_STRATEGY_RETURN, looks_like
from .values import Value

# No strategy ranks returns that well for months: signals like these know the return.
LARGEST_MEAN_IC = 0.3


def remarks(values: Iterable[Value]) -> tuple[str, ...]:
    """Sentences on implausible values of one session.

    >>> from datetime import date
    >>> late = Value(date(2024, 1, 3), "strategy_return", "", 1.5, 1, "ok")
    >>> remarks([late])
    ('The strategy returned 150% in this session: a return is a fraction, 0.01 for 1%.',)
    """
    return tuple(_remarks({(v.metric, v.dimension): v for v in values if v.value is not None}))


def _remarks(values: dict[tuple[str, str], Value]) -> Iterator[str]:
    own = values.get(("strategy_return", ""))
    if own is not None and own.value is not None and abs(own.value) > LARGEST_STRATEGY_RETURN:
        yield (
            f"The strategy returned {own.value:.0%} in this session: a return is a fraction, 0.01 "
            f"for 1%."
        )
    yield from _large_returns([v for (m, _), v in values.items() if m == "implausible_return"])
    mean = values.get(("ic_60d_avg", ""))
    if mean is not None and mean.value is not None and mean.value > LARGEST_MEAN_IC:
        yield (
            f"The mean IC of 60 sessions is {mean.value:.2f}, too good to be true: does the signal "
            f"know the returns that it is compared with?"
        )
    yield from _dating(values)


def _large_returns(found: list[Value]) -> Iterator[str]:
    if not found:
        return
    worst = sorted(found, key=lambda v: -abs(v.value or 0.0))
    listed = "; ".join(_return(v) for v in worst)
    more = "" if worst[0].n <= len(worst) else f" and {worst[0].n - len(worst)} more"
    yield f"Returns beyond {LARGEST_RETURN:.0%} of a session: {listed}{more}."


def _return(value: Value) -> str:
    number = value.value or 0.0
    split = looks_like(number)
    return f"{value.dimension} {number:.0%}" + (f" ({split})" if split else "")


def _dating(values: dict[tuple[str, str], Value]) -> Iterator[str]:
    reasons = {
        "later": "returns seem to be dated by the day on which they were realised; date them by "
        "the session of the signal",
        "earlier": "expected of a signal that follows the last return; otherwise the returns are "
        "dated one session too early",
    }
    for shift, reason in reasons.items():
        found = values.get(("ic_dating", shift))
        if found is not None:
            yield (
                f"The IC with returns of one session {shift} is clearly larger, {found.value:.3f} "
                f"on average of {found.n} sessions: {reason}."
            )
