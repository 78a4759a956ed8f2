"""How bad it is: the figures of a strategy before, during and after the main fault."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

import numpy as np

from ..alerts.headroom import Headroom, headroom
from ..alerts.rules import Flags, Rule
from ..computation.history import History
from ..metrics.arrays import Floats
from ..results.limits import limit_of
from ..skew.sentences import counted
from .causes import Cause
from .evidence import Effect

__all__ = ["METRICS", "effects", "level"]

METRICS = ("ic", "strategy_return", "sharpe_60d", "drawdown", "ic_cusum")


def level(history: History, end: date) -> float | None:
    """The accepted mean of the IC at the last session up to a date; None without one."""
    known = zip(history.sessions, history.levels, strict=True)
    accepted = [baseline.mean for day, baseline in known if baseline is not None and day <= end]
    return accepted[-1] if accepted else None


def effects(
    history: History, rules: Sequence[Rule], main: Cause | None, span: tuple[date, date]
) -> Iterator[Effect]:
    """The figures of a range before, during and after the main fault; nothing without one."""
    if main is None or not history.sessions:
        return
    days = np.array(history.sessions, dtype="M8[D]")
    inside = (days >= np.datetime64(span[0])) & (days <= np.datetime64(span[1]))
    last = np.datetime64(main.last or span[1])
    before = inside & (days < np.datetime64(main.first))
    during = inside & (days >= np.datetime64(main.first)) & (days <= last)
    if not during.any():
        return
    parts = (before, during, inside & (days > last))
    rooms = headroom(history.judge(rules), int(np.flatnonzero(inside)[-1]))
    yield from _of_ic(history, parts, level(history, span[1]))
    yield from _of_returns(history, parts)
    yield from _of_last(history, parts, rooms)


def _of_ic(history: History, parts: Sequence[Flags], accepted: float | None) -> Iterator[Effect]:
    ic = history.of("ic")
    text = "" if accepted is None else f"accepted {accepted:.3f}"
    counts = [str(n) for part in parts if (n := int(np.isfinite(ic[part]).sum()))]
    if counts:
        known = " and ".join(filter(None, [", ".join(counts[:-1]), counts[-1]]))
        before, during, after = (_mean(ic[part]) for part in parts)
        yield Effect(f"mean IC ({known} sessions)", before, during, after, text)


def _of_returns(history: History, parts: Sequence[Flags]) -> Iterator[Effect]:
    """The return of the strategy during the fault, beside that of as many sessions before."""
    returns, (before, during, after) = history.of("strategy_return"), parts
    if not np.isfinite(returns[during]).any():
        return
    sessions = int(during.sum())
    earlier, later = returns[before][-sessions:], returns[after][:sessions]
    was, did, does = (
        _compounded(part) if len(part) == sessions else None
        for part in (earlier, returns[during], later)
    )
    each = " each" if sessions > 1 and (was, does) != (None, None) else ""
    limit = counted(sessions, "session") + each
    yield Effect("return of the strategy", was, did, does, limit, is_share=True)


def _of_last(
    history: History, parts: Sequence[Flags], rooms: Sequence[Headroom]
) -> Iterator[Effect]:
    """Figures that look back themselves, at the last session of each part."""
    names = (("sharpe_60d", "Sharpe ratio, 60 sessions", False), ("drawdown", "drawdown", True))
    for metric, name, is_share in names:
        values = history.of(metric)
        if np.isfinite(values[parts[1]]).any():
            limit = limit_of(metric, rooms)
            before, during, after = (_last(values[part]) for part in parts)
            yield Effect(name, before, during, after, limit, is_share)


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _compounded(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.prod(1 + known) - 1) if len(known) else None


def _last(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else None
