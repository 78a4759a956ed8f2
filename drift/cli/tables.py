"""Metrics and alerts as the drift commands print them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mlflow_timescale.cli.kit import print_message, print_table

if TYPE_CHECKING:
    from ..alerts.lifecycle import Alert
    from ..inputs.champions import Championship
    from ..results.drift_metrics import DriftMetrics

SHOWN = ("ic", "ic_5d_avg", "ic_cusum", "psi", "sharpe_5d", "sharpe_20d", "sharpe_60d", "n_signals")


def metrics_json(metrics: DriftMetrics) -> dict[str, Any]:
    """One session's metrics, flags, and the reasons why a metric is missing."""
    keys = ("date", "strategy_id", "model_name", "model_version", *SHOWN)
    values = {name: getattr(metrics, name) for name in keys}
    flags = {name: getattr(metrics, name) for name in ("ic_alert", "psi_alert", "sharpe_alert")}
    return {**values, **flags, "statuses": metrics.statuses}


def served(metrics: DriftMetrics, champion: Championship | None) -> str:
    """The version that the session was served by, beside the present champion; "" for none."""
    if not metrics.model_name:
        return ""
    version = f"{metrics.model_name}/{metrics.model_version}".strip("/")
    if champion is None or not metrics.model_version:
        return f", served by {version}"
    if champion.names(metrics.model_version):
        return f", served by {version}, the champion"
    return f", served by {version}, but champion is {champion}"


def metric_rows(metrics: DriftMetrics) -> Iterator[tuple[str, str, str]]:
    """Name, value and the reason why it is missing."""
    for name in SHOWN:
        yield name, number(getattr(metrics, name)), _missing_because(metrics, name)


def print_metrics(metrics: DriftMetrics) -> None:
    """Print one session's metrics."""
    print_table(("metric", "value", ""), list(metric_rows(metrics)))


def print_alerts(alerts: Sequence[Alert], none: str) -> None:
    """Print alerts, or the text for none."""
    if not alerts:
        print_message(none)
        return
    header = ("id", "severity", "rule", "state", "since", "resolved", "value", "note")
    print_table(header, [_alert_row(alert) for alert in alerts])


def number(value: float | None) -> str:
    """Four digits, or nothing.

    >>> number(0.123456), number(None)
    ('0.1235', '')
    """
    return "" if value is None else f"{value:.4g}"


def _missing_because(metrics: DriftMetrics, name: str) -> str:
    metric = "psi_max" if name == "psi" else name
    missing = "no reference yet" if name in ("psi", "ic_cusum") else ""
    return metrics.statuses.get(metric, missing if getattr(metrics, name) is None else "")


def _alert_row(alert: Alert) -> tuple[Any, ...]:
    return (
        alert.alert_id,
        alert.severity,
        alert.rule,
        alert.state + (" (inhibited)" if alert.inhibited and alert.state != "resolved" else ""),
        alert.session,
        alert.resolved_session,
        number(alert.value),
        alert.note or alert.action,
    )
