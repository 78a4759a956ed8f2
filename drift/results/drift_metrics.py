"""What the monitor hands out, `DriftMetrics`, and takes, `AlertConfig`: plain thresholds."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..alerts import presets
from ..alerts.rules import Rule
from .values import Value

# Fields of DriftMetrics, by the metric that fills them.
_METRICS = {
    "ic": "ic",
    "ic_5d_avg": "ic_5d_avg",
    "psi": "psi_max",
    "sharpe_5d": "sharpe_5d",
    "sharpe_20d": "sharpe_20d",
    "sharpe_60d": "sharpe_60d",
    "ic_cusum": "ic_cusum",
}
_FLAGS = ("ic_alert", "psi_alert", "sharpe_alert")


@dataclass(frozen=True)
class AlertConfig:
    """The classic matrix with thresholds of one's own; `DriftMonitor(rules=AlertConfig(...))`.

    >>> [rule.threshold for rule in AlertConfig(psi_critical=0.3).rules()][3:5]
    [0.1, 0.3]
    """

    ic_warning: float = 0.02
    ic_critical: float = 0.01
    psi_warning: float = 0.10
    psi_critical: float = 0.25
    sharpe_warning: float = 0.5
    sharpe_critical: float = 0.0

    def rules(self) -> tuple[Rule, ...]:
        """The seven rows of the matrix."""
        return presets.classic(**vars(self))


@dataclass
class DriftMetrics:
    """One session of one strategy. What cannot be computed is None; `statuses` say why.

    `psi` is the largest of the features'; `values` holds everything, by metric and dimension. The
    alert flags say that a critical alert on IC, PSI or Sharpe is open.
    """

    date: datetime.date
    strategy_id: str
    ic: float | None = None
    ic_5d_avg: float | None = None
    psi: float | None = None
    sharpe_5d: float | None = None
    sharpe_20d: float | None = None
    ic_alert: bool = False
    psi_alert: bool = False
    sharpe_alert: bool = False
    sharpe_60d: float | None = None
    ic_cusum: float | None = None
    n_signals: int = 0
    values: tuple[Value, ...] = field(default=(), repr=False)

    @classmethod
    def of(
        cls,
        strategy_id: str,
        day: datetime.date,
        found: Sequence[Value],
    ) -> DriftMetrics:
        """Gather a session's values."""
        own = {v.metric: v.value for v in found if not v.dimension}
        fields: dict[str, Any] = {name: own.get(metric) for name, metric in _METRICS.items()}
        flags = {name: bool(own.get(name)) for name in _FLAGS}
        n_signals = int(own.get("n_signals") or 0)
        return cls(
            day,
            strategy_id,
            **fields,
            **flags,
            n_signals=n_signals,
            values=tuple(found),
        )

    @property
    def statuses(self) -> dict[str, str]:
        """Why the strategy's own metrics are missing, by metric."""
        return {v.metric: v.status for v in self.values if v.value is None and not v.dimension}

    def value(self, metric: str, dimension: str = "") -> float | None:
        """One number, for instance `value("psi", "rsi_14")`; None where there is none."""
        for v in self.values:
            if (v.metric, v.dimension) == (metric, dimension):
                return v.value
        return None

    def as_values(self) -> Iterator[Value]:
        """The fields as values, for metrics that were made by hand."""
        for name, metric in _METRICS.items():
            number = getattr(self, name)
            if number is not None:
                yield Value(self.date, metric, "", number, 1, "ok")
        for name in _FLAGS:
            flag = float(getattr(self, name))
            yield Value(self.date, name, "", flag, 1, "ok")
