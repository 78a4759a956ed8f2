"""Metrics and alerts as the drift commands print them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlflow_timescale.cli.kit import print_message, print_table

if TYPE_CHECKING:
    from ..alerts.deliveries import Delivery
    from ..alerts.headroom import Headroom
    from ..alerts.lifecycle import Alert
    from ..inputs.champions import Championship
    from ..results.drift_metrics import DriftMetrics

SHOWN = ("ic", "ic_5d_avg", "ic_cusum", "psi", "sharpe_5d", "sharpe_20d", "sharpe_60d", "n_signals")


def metrics_json(metrics: DriftMetrics) -> dict[str, Any]:
    """One session's metrics, flags, and the reasons why a metric is missing."""
    keys = ("date", "strategy_id", "model_name", "model_version", *SHOWN)
    values = {name: getattr(metrics, name) for name in keys}
    flags = {name: getattr(metrics, name) for name in ("ic_alert", "psi_alert", "sharpe_alert")}
    return {
        **values,
        **flags,
        "status": metrics.status,
        "statuses": metrics.statuses,
        "remarks": metrics.remarks,
    }


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


def metric_rows(
    metrics: DriftMetrics, rooms: Sequence[Headroom], last: Mapping[str, str] | None = None
) -> Iterator[tuple[str, str, str]]:
    """Name, value, and its limit, or the reason why it is missing with the `last` one known."""
    for name in SHOWN:
        missing = getattr(metrics, name) is None
        reason = _missing_because(metrics, name) if missing else _limit(name, metrics, rooms)
        known = f"last {last[name]}" if last and name in last else ""
        yield name, number(getattr(metrics, name)), ", ".join(filter(None, [reason, known]))


def headroom_json(rooms: Sequence[Headroom]) -> list[dict[str, Any]]:
    """Each rule with its value, limit, and the bad sessions until it opens."""
    return [
        {
            "rule": room.rule.name,
            "severity": room.rule.severity,
            "condition": room.rule.condition,
            "value": room.value,
            "limit": room.rule.threshold,
            "open": room.open,
            "bad_sessions_away": room.sessions_away,
        }
        for room in rooms
    ]


def print_metrics(
    metrics: DriftMetrics, rooms: Sequence[Headroom], last: Mapping[str, str] | None = None
) -> None:
    """Print one session's metrics beside their limits, and what else should be known of it."""
    from ..results.limits import outlook

    print_table(("metric", "value", "limit"), list(metric_rows(metrics, rooms, last)))
    for remark in metrics.remarks:
        print_message(f"Note: {remark}", style="yellow")
    if near := outlook(rooms):
        print_message(f"Near: {near}", style="yellow")


def _limit(name: str, metrics: DriftMetrics, rooms: Sequence[Headroom]) -> str:
    from ..results.limits import limit_of, limit_of_psi

    limit = limit_of(name, rooms)
    return limit_of_psi(metrics.values, rooms) if name == "psi" and not limit else limit


def print_alerts(alerts: Sequence[Alert], none: str) -> None:
    """Print alerts, or the text for none."""
    if not alerts:
        print_message(none)
        return
    header = ("id", "severity", "rule", "state", "since", "resolved", "value", "note")
    print_table(header, [_alert_row(alert) for alert in alerts])


def print_deliveries(deliveries: Sequence[Delivery]) -> None:
    """Print messages that their targets have not taken."""
    if not deliveries:
        print_message("Every message was delivered.")
        return
    header = ("id", "queued", "session", "target", "attempts", "last error", "message")
    print_table(header, [_delivery_row(each) for each in deliveries])


def deliveries_json(deliveries: Sequence[Delivery]) -> list[dict[str, Any]]:
    """Messages for `--json`: their title, target, attempts and last error."""
    return [
        {
            "delivery_id": str(each.delivery_id),
            "session": each.session,
            "target": each.target,
            "queued_at": each.queued_at,
            "attempts": each.attempts,
            "last_error": each.last_error,
            "title": each.title,
        }
        for each in deliveries
    ]


def print_handled(alerts: Sequence[Alert]) -> None:
    """Print a line for each alert that a person has acknowledged or silenced."""
    from ..alerts.lifecycle import handled_text

    for alert in alerts:
        print_message(handled_text(alert).capitalize())


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


def _delivery_row(delivery: Delivery) -> tuple[Any, ...]:
    return (
        str(delivery.delivery_id)[:8],
        f"{delivery.queued_at:%Y-%m-%d %H:%M}",
        delivery.session,
        delivery.target,
        delivery.attempts,
        delivery.last_error,
        delivery.title,
    )


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
