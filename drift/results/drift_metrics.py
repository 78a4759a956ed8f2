"""What the monitor hands out, `DriftMetrics`, and takes, `AlertConfig`: plain thresholds."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..alerts import presets
from ..alerts.lifecycle import Alert
from ..alerts.rules import Rule
from .remarks import remarks
from .values import Run, Value

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
    """The thresholds of the classic alert matrix: `DriftMonitor(..., rules=AlertConfig(...))`.

    Attributes
    ----------
    ic_warning, ic_critical
        A rank IC below the first on 5 sessions, or below the second on one.
    psi_warning, psi_critical
        A PSI of any feature above these.
    sharpe_warning, sharpe_critical
        A 20-session Sharpe ratio below the first on 10 sessions, or below the second on 5.

    Examples
    --------
    >>> AlertConfig(psi_critical=0.3).psi_critical
    0.3
    """

    ic_warning: float = 0.02
    ic_critical: float = 0.01
    psi_warning: float = 0.10
    psi_critical: float = 0.25
    sharpe_warning: float = 0.5
    sharpe_critical: float = 0.0

    def rules(self) -> tuple[Rule, ...]:
        """The seven rules of the matrix.

        Returns
        -------
        tuple of Rule

        Examples
        --------
        >>> [rule.threshold for rule in AlertConfig(psi_critical=0.3).rules()][3:5]
        [0.1, 0.3]
        """
        return presets.classic(**vars(self))


@dataclass
class DriftMetrics:
    """The metrics of one session of one strategy; None where a metric cannot be computed.

    Attributes
    ----------
    date, strategy_id
        The session and the strategy.
    ic, ic_5d_avg
        Rank IC of the session's signals, and its mean over the last 5 sessions.
    psi
        The largest PSI of the features.
    sharpe_5d, sharpe_20d, sharpe_60d
        Annualised Sharpe ratios of the last strategy returns.
    ic_cusum
        CUSUM of the shortfall of the IC below its accepted level, in standard deviations.
    n_signals
        Signals of the session.
    model_name, model_version
        The model and version that the session was judged by; empty if the predictions name none.
    ic_alert, psi_alert, sharpe_alert
        Whether a critical alert on IC, PSI or Sharpe is open.
    values
        Everything, by metric and dimension.
    alerts
        The alerts that were open at the session and need a person, worst first.
    handled
        The alerts that hold as well, and that a person has acknowledged or silenced.

    Examples
    --------
    >>> metrics = DriftMetrics(datetime.date(2024, 1, 2), "momentum", ic=0.031, sharpe_20d=1.2)
    >>> metrics.ic, metrics.psi
    (0.031, None)
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
    model_name: str = ""
    model_version: str = ""
    values: tuple[Value, ...] = field(default=(), repr=False)
    alerts: tuple[Alert, ...] = field(default=(), repr=False, compare=False)
    handled: tuple[Alert, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def of(
        cls,
        strategy_id: str,
        day: datetime.date,
        found: Sequence[Value],
        run: Run | None = None,
        alerts: Sequence[Alert] = (),
        handled: Sequence[Alert] = (),
    ) -> DriftMetrics:
        """The metrics of a session, from its values.

        Parameters
        ----------
        strategy_id, day
            The strategy and the session.
        found
            Values by metric and dimension.
        run
            The session as computed, for its model.
        alerts, handled
            Those that were open at the session, and those that a person handles; worst first.

        Examples
        --------
        >>> day = datetime.date(2024, 1, 2)
        >>> DriftMetrics.of("momentum", day, [Value(day, "ic", "", 0.031, 40, "ok")]).ic
        0.031
        """
        by_metric = {v.metric: v.value for v in found if not v.dimension}
        fields: dict[str, Any] = {name: by_metric.get(metric) for name, metric in _METRICS.items()}
        flags = {name: bool(by_metric.get(name)) for name in _FLAGS}
        n_signals = int(by_metric.get("n_signals") or 0)
        return cls(
            day,
            strategy_id,
            **fields,
            **flags,
            n_signals=n_signals,
            model_name=run.model_name if run else "",
            model_version=run.model_version if run else "",
            values=tuple(found),
            alerts=tuple(alerts),
            handled=tuple(handled),
        )

    @property
    def status(self) -> str:
        """The worst severity among `alerts`: "warning", "critical", "emergency"; else "ok".

        Where only alerts that a person handles hold: the state of the worst, "acknowledged" or
        "silenced".

        Examples
        --------
        >>> DriftMetrics(datetime.date(2024, 1, 2), "momentum", ic=0.031).status
        'ok'
        """
        if self.alerts:
            return self.alerts[0].severity
        return self.handled[0].state if self.handled else "ok"

    @property
    def statuses(self) -> dict[str, str]:
        """Why metrics of the strategy are missing, by metric.

        Examples
        --------
        >>> day = datetime.date(2024, 1, 2)
        >>> pending = Value(day, "ic", "", None, 0, "no_returns_yet")
        >>> DriftMetrics(day, "momentum", values=(pending,)).statuses
        {'ic': 'no_returns_yet'}
        """
        return {v.metric: v.status for v in self.values if v.value is None and not v.dimension}

    def last_known(self, earlier: Sequence[DriftMetrics]) -> dict[str, str]:
        """What earlier sessions knew of the figures that this one does not have yet.

        Parameters
        ----------
        earlier
            Metrics of sessions before, in order of time.

        Returns
        -------
        dict of str
            A value with its session, by the name of the figure.

        Examples
        --------
        >>> day = datetime.date(2024, 1, 3)
        >>> before = DriftMetrics(datetime.date(2024, 1, 2), "momentum", ic=0.031)
        >>> DriftMetrics(day, "momentum", psi=0.1).last_known([before])
        {'ic': '0.031 on 2024-01-02'}
        """
        known: dict[str, str] = {}
        for before in earlier:
            for name in _METRICS:
                value = getattr(before, name)
                if getattr(self, name) is None and value is not None:
                    known[name] = f"{value:.4g} on {before.date}"
        return known

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences on implausible inputs: their size, splits, returns dated by another session.

        Examples
        --------
        >>> day = datetime.date(2024, 1, 2)
        >>> split = Value(day, "implausible_return", "AAPL", -0.75, 1, "ok")
        >>> DriftMetrics(day, "momentum", values=(split,)).remarks
        ('Returns beyond 50% of a session: AAPL -75% (a 4-for-1 split?).',)
        """
        return remarks(self.values)

    def value(self, metric: str, dimension: str = "") -> float | None:
        """One number; None where there is none.

        Parameters
        ----------
        metric
            Such as "psi".
        dimension
            A feature, horizon ("h5"), group or model; "" for the strategy as a whole.

        Examples
        --------
        >>> day = datetime.date(2024, 1, 2)
        >>> psi = Value(day, "psi", "rsi_14", 0.07, 40, "ok")
        >>> metrics = DriftMetrics(day, "momentum", values=(psi,))
        >>> metrics.value("psi", "rsi_14")
        0.07
        """
        for v in self.values:
            if (v.metric, v.dimension) == (metric, dimension):
                return v.value
        return None

    def as_values(self) -> Iterator[Value]:
        """The fields as values, for metrics that were made by hand.

        Returns
        -------
        iterator of Value

        Examples
        --------
        >>> metrics = DriftMetrics(datetime.date(2024, 1, 2), "momentum", ic=0.031)
        >>> [(value.metric, value.value) for value in metrics.as_values()][0]
        ('ic', 0.031)
        """
        for name, metric in _METRICS.items():
            number = getattr(self, name)
            if number is not None:
                yield Value(self.date, metric, "", number, 1, "ok")
        for name in _FLAGS:
            flag = float(getattr(self, name))
            yield Value(self.date, name, "", flag, 1, "ok")
