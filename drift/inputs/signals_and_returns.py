"""The signals and the following returns of one session."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlflow_timescale.db import Connection, load

from ..metrics.arrays import Floats
from .champions import Champions

_queries = load("drift")

Numbers = NDArray[np.int64]
# Signal name, horizon in sessions, model name, model version: the key of `mlops.drift_signals`.
SignalKey = tuple[str, int, str, str]
# Labels of the primary signal: by itself, with returns of another horizon, in one group of names.
_RESERVED = re.compile(r"|h\d+|group .*", re.DOTALL)


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

    @property
    def key(self) -> SignalKey:
        return self.name, self.horizon, self.model_name, self.model_version


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
        """When the last prediction of the judged signal was made; None without any prediction."""
        if self.primary is not None:
            return self.primary.signal_time
        return max((signal.signal_time for signal in self.signals), default=None)

    def labels(self) -> dict[SignalKey, str]:
        """The dimension of each signal's IC, by its key: "" for the primary one, no two alike.

        Others are named by what differs from the primary one: "carry", "mom/2", "no model", "carry
        h5 mom/2". Where that could be read as something else, such as "h5" (the primary signal
        with returns of five sessions), it is the whole key: "signal h5 mom/1".
        """
        primary = self.primary
        if primary is None:
            return {}
        labels = {primary.key: ""}
        for signal in sorted(self.signals, key=lambda signal: signal.key):
            if signal.key != primary.key:
                label = _difference(signal, primary)
                if _RESERVED.fullmatch(label) or label in labels.values():
                    label = _unused(_whole_key(signal), labels.values())
                labels[signal.key] = label
        return labels


def _difference(signal: Signal, primary: Signal) -> str:
    parts = [
        signal.name * (signal.name != primary.name),
        f"h{signal.horizon}" * (signal.horizon != primary.horizon),
        _model(signal) * (signal.key[2:] != primary.key[2:]),
    ]
    return " ".join(part for part in parts if part)


def _whole_key(signal: Signal) -> str:
    return f"{signal.name} h{signal.horizon} {_model(signal)}"


def _unused(label: str, used: Collection[str]) -> str:
    """The label, numbered if it is used: model "a/b" without a version is no version b of "a"."""
    numbered = (f"{label} {number}" for number in count(2))
    return label if label not in used else next(each for each in numbered if each not in used)


def _model(signal: Signal) -> str:
    return f"{signal.model_name}/{signal.model_version}".strip("/") or "no model"


@dataclass(frozen=True)
class Judged:
    """Which of the recorded signals a strategy is judged by.

    Of the signals named `signal`, of `model` and `version` where they are given, those with the
    shortest horizon; of several, that of the champion, else the one that covers most names, else
    that of the version that judged the session before, else the latest.
    """

    signal: str = "signal"
    model: str = ""
    version: str = ""
    champions: Champions | None = None

    def choose(self, signals: Sequence[Signal], before: str = "") -> Signal | None:
        """The judged signal of a session; `before` is the version that judged the one before."""
        candidates = [signal for signal in signals if self._names(signal)]
        shortest = min((signal.horizon for signal in candidates), default=0)
        candidates = [signal for signal in candidates if signal.horizon == shortest]
        return max(candidates, key=lambda signal: self._rank(signal, before), default=None)

    def _names(self, signal: Signal) -> bool:
        return (
            signal.name == self.signal
            and (not self.model or signal.model_name == self.model)
            and (not self.version or signal.model_version == self.version)
        )

    def _rank(self, signal: Signal, before: str) -> tuple[bool, int, bool, datetime]:
        return (
            self._is_champion(signal),
            int(np.isfinite(signal.values).sum()),
            bool(before) and signal.model_version == before,
            signal.signal_time,
        )

    def _is_champion(self, signal: Signal) -> bool:
        if self.champions is None:
            return False
        champion = self.champions.at(signal.model_name, signal.signal_time)
        return champion is not None and champion.names(signal.model_version)


def observe(
    conn: Connection,
    strategy_id: str,
    session: date,
    judged: Judged,
    before: str = "",
) -> Observed:
    """Read one session. The primary signal is the one that `judged` chooses."""
    key = {"strategy_id": strategy_id, "session": session}
    with conn.cursor(binary=True) as cursor:
        signals = [_signal(row) for row in cursor.execute(_queries.session_signals, key)]
        returned = {
            row[0]: Returns(*_last(row[1], row[2]))
            for row in cursor.execute(_queries.session_returns, key)
        }
    return Observed(session, tuple(signals), returned, judged.choose(signals, before))


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
