"""The signals and the following returns of one session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlflow_timescale.db import Connection, load

from ..metrics.arrays import Floats

_queries = load("drift")

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Signal:
    """One signal of one model: `values` of names with numbers `entities`, both shape (names,)."""

    name: str
    horizon: int
    model_name: str
    model_version: str
    signal_time: datetime
    entities: Numbers
    values: Floats
    groups: NDArray[np.str_] | None


@dataclass(frozen=True)
class Returns:
    """Realized returns of names with numbers `entities`, both shape (names,)."""

    entities: Numbers
    values: Floats


@dataclass(frozen=True)
class Observed:
    """One session. `returns` are by horizon; `primary` is the signal the strategy is judged by."""

    session: date
    signals: tuple[Signal, ...]
    returns: Mapping[int, Returns]
    primary: Signal | None

    @cached_property
    def entities(self) -> Numbers:
        """The names with any signal, increasing."""
        if not self.signals:
            return np.empty(0, dtype=np.int64)
        return np.unique(np.concatenate([signal.entities for signal in self.signals]))

    @property
    def as_of(self) -> datetime | None:
        """When the last prediction was made; None without one."""
        return max((signal.signal_time for signal in self.signals), default=None)

    def label(self, signal: Signal) -> str:
        """A name beside the primary signal: "", "h5", "value", "carry h5 lasso/3"."""
        primary = self.primary or signal
        parts = [
            signal.name * (signal.name != primary.name),
            f"h{signal.horizon}" * (signal.horizon != primary.horizon),
            _model(signal) * (_model(signal) != _model(primary)),
        ]
        return " ".join(part for part in parts if part)


def _model(signal: Signal) -> str:
    return f"{signal.model_name}/{signal.model_version}".strip("/")


def observe(
    conn: Connection, strategy_id: str, session: date, *, signal: str = "signal", model: str = ""
) -> Observed:
    """Read one session. The primary signal is the one named `signal`, of `model` if given, with the
    shortest horizon; of several, the latest.
    """
    key = {"strategy_id": strategy_id, "session": session}
    with conn.cursor(binary=True) as cursor:
        signals = [_signal(row) for row in cursor.execute(_queries.session_signals, key)]
        returned = {
            row[0]: Returns(*_last(row[1], row[2]))
            for row in cursor.execute(_queries.session_returns, key)
        }
    return Observed(session, tuple(signals), returned, _primary(signals, signal, model))


def strategy_returns(conn: Connection, strategy_id: str, sessions: Sequence[date]) -> Floats:
    """What the strategy returned in each of `sessions` (increasing), NaN where it is not known."""
    result = np.full(len(sessions), np.nan)
    if not sessions:
        return result
    position = {session: index for index, session in enumerate(sessions)}
    key = {"strategy_id": strategy_id, "end": sessions[-1]}
    for session, value in conn.execute(_queries.strategy_return_series, key):
        if session in position:
            result[position[session]] = value
    return result


def align(names: Numbers, entities: Numbers, values: Floats) -> Floats:
    """Values by name in the order of `names` (increasing); NaN for a name without one."""
    result = np.full(len(names), np.nan)
    if len(names) and len(entities):
        at = np.minimum(np.searchsorted(names, entities), len(names) - 1)
        is_listed = names[at] == entities
        result[at[is_listed]] = values[is_listed]
    return result


def _signal(row: tuple[Any, ...]) -> Signal:
    name, horizon, model_name, model_version, signal_time, entities, values, groups = row
    numbers, last, labels = *_last(entities, values), None
    if groups is not None:
        labels = np.asarray(groups, dtype=str)[_is_last(np.asarray(entities))]
    return Signal(name, horizon, model_name, model_version, signal_time, numbers, last, labels)


def _last(entities: Any, values: Any) -> tuple[Numbers, Floats]:
    """Where a name comes several times in a row, its last value."""
    numbers = np.asarray(entities, dtype=np.int64)
    last = _is_last(numbers)
    return numbers[last], np.asarray(values, dtype=np.float64)[last]


def _is_last(numbers: Numbers) -> NDArray[np.bool_]:
    return np.append(numbers[1:] != numbers[:-1], True)[: len(numbers)]


def _primary(signals: Sequence[Signal], name: str, model: str) -> Signal | None:
    candidates = [s for s in signals if s.name == name and (not model or s.model_name == model)]
    if not candidates:
        return None
    shortest = min(candidate.horizon for candidate in candidates)
    return max((c for c in candidates if c.horizon == shortest), key=lambda c: c.signal_time)
