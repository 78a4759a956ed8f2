"""A small strategy with known skill, to be recorded into a database of the test's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from drift import DriftMonitor

NAMES = [f"N{i:02d}" for i in range(40)]


@dataclass
class Strategy:
    """Signals and returns of `days`, arrays of shape (days, names); skill is their correlation."""

    days: Sequence[date]
    signals: np.ndarray
    returns: np.ndarray

    @classmethod
    def of(
        cls, days: Sequence[date], skill: float | Sequence[float] = 0.3, seed: int = 0
    ) -> Strategy:
        generator = np.random.default_rng(seed)
        signals = generator.normal(size=(len(days), len(NAMES)))
        noise = generator.normal(size=signals.shape)
        weight = np.broadcast_to(skill, len(days))[:, None]
        return cls(days, signals, weight * signals + np.sqrt(1 - weight**2) * noise)

    def predictions(self, chosen: slice = slice(None), **columns: Any) -> dict[str, Any]:
        return {**self._long(self.signals, "signal", chosen), **columns}

    def realized(self, chosen: slice = slice(None), **columns: Any) -> dict[str, Any]:
        return {**self._long(self.returns / 100, "value", chosen), **columns}

    def own(self, chosen: slice = slice(None)) -> dict[str, Any]:
        daily = (self.signals * self.returns).mean(axis=1) / 100
        return {"session": list(self.days[chosen]), "value": daily[chosen].tolist()}

    def record(self, monitor: DriftMonitor, chosen: slice = slice(None)) -> None:
        monitor.record_predictions(self.predictions(chosen))
        monitor.record_returns(self.realized(chosen))
        monitor.record_strategy_returns(self.own(chosen))

    def _long(self, values: np.ndarray, name: str, chosen: slice) -> dict[str, Any]:
        days = self.days[chosen]
        return {
            "entity_key": NAMES * len(days),
            "session": [day for day in days for _ in NAMES],
            name: values[chosen].ravel().tolist(),
        }
