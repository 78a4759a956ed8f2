"""What breaks in a feed without moving its distribution: its clock, its delay, the whole job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date

import numpy as np

from ..inputs.signals_and_returns import Observed
from ..metrics.clock import shift
from ..metrics.feed_quality import Shares, excess, unit_shift
from ..metrics.psi import Reference
from ..results.values import Value
from .computed import ComputedSessions
from .lateness import SAME
from .session_values import PREDICTIONS


def of_clocks(
    observed: Observed,
    watched: Sequence[str],
    references: Mapping[str, Reference],
    batch: ComputedSessions,
) -> Iterator[Value]:
    """Hours by which a feature's events have left their usual hour, and sessions behind it."""
    session, moved = observed.session, {}
    yield from _signal_clock(session, references, batch)
    for name in watched:
        usual, today = references[name].clock, batch.clocks.pop((session, name), None)
        if usual is None or today is None:
            continue
        moved[name] = shift(today, usual) / 60
        if moved[name]:
            yield Value(session, "clock_shift", name, moved[name], 1, "ok")
        if today.behind > usual.behind:
            yield Value(session, "behind", name, today.behind - usual.behind, 1, "ok")
    worst = max(map(abs, moved.values()), default=None)
    status = "no_data" if worst is None else "ok"
    yield Value(session, "clock_shift", "", worst, len(moved), status)
    listed = ", ".join(f"{name} {hours:+.1f} h" for name, hours in moved.items() if hours)
    batch.notes["clock_shift", session] = f"event times against their usual hour: {listed}"


def _signal_clock(
    session: date, references: Mapping[str, Reference], batch: ComputedSessions
) -> Iterator[Value]:
    """Hours by which the signals came later or, negative, earlier than ever in the reference."""
    today = batch.clocks.pop((session, PREDICTIONS), None)
    usual = references[PREDICTIONS].clock if PREDICTIONS in references else None
    if usual is None or today is None:
        return
    hours = shift(today, usual) / 60
    yield Value(session, "signal_clock", "", abs(hours), 1, "ok")
    batch.note("signal_clock", session, f"signals came {hours:+.1f} h from their usual time")


def of_units(
    session: date,
    shares: Mapping[str, Shares],
    references: Mapping[str, Reference],
    batch: ComputedSessions,
) -> Iterator[Value]:
    """How far, in powers of ten, each feature's size is beyond every day of its reference."""
    moved = {}
    for name, now in shares.items():
        habits = references[name].habits
        if habits is not None and references[name].kind != "categories":
            moved[name] = unit_shift(now.magnitude, habits)
    known = {name: value for name, value in moved.items() if np.isfinite(value)}
    for name, value in known.items():
        if value:
            yield Value(session, "unit_shift", name, value, len(known), "ok")
    worst = max(map(abs, known.values()), default=None)
    status = "no_data" if worst is None else "ok"
    yield Value(session, "unit_shift", "", worst, len(known), status)
    listed = ", ".join(
        f"{name} is x{10 ** (shares[name].magnitude - (habits.magnitude or 0.0)):.3g}"
        for name in sorted(known, key=lambda name: -abs(known[name]))
        if known[name] and (habits := references[name].habits) is not None
    )
    batch.notes["unit_shift", session] = f"median size against the reference: {listed}"


def of_repeats(
    session: date,
    earlier: Sequence[date],
    watched: Sequence[str],
    references: Mapping[str, Reference],
    batch: ComputedSessions,
) -> Iterator[Value]:
    """How many sessions back the session is whose values a feature repeats."""
    for name in watched:
        habits = references[name].habits
        if habits is None or not np.isfinite(excess(1.0, habits.unchanged)):
            continue
        same = batch.feeds.repeats(session, earlier, name)
        steps = [
            step for step, share in enumerate(same, 1) if excess(share, habits.unchanged) > SAME
        ]
        if steps:
            yield Value(session, "repeats", name, steps[0], len(earlier), "ok")


def of_stopped(
    observed: Observed,
    shares: Mapping[str, Shares],
    references: Mapping[str, Reference],
    batch: ComputedSessions,
) -> Iterator[Value]:
    """How many features have no value for any name: one stopped job is one alert."""
    expected = {
        name: share
        for name, share in shares.items()
        if name != PREDICTIONS and (habits := references[name].habits) and habits.missing < 1.0
    }
    stopped = [name for name, share in expected.items() if share.missing == 1.0]
    session = observed.session
    if expected:
        yield Value(session, "stopped", "", len(stopped), len(expected), "ok")
        listed = ", ".join(stopped[:5]) + (" and others" if len(stopped) > 5 else "")
        names = f"all {len(observed.entities)} names"
        text = f"{len(stopped)} of {len(expected)} features, {names}: {listed}"
        batch.notes["stopped", session] = text
