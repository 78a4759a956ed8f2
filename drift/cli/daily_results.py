"""What `mlflow-timescale daily` prints, and its exit code. Loads numpy; imported when it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mlflow_timescale.cli.kit import Exit, print_message, print_table

from ..alerts.deliveries import Delivery
from ..daily import Daily, Unchecked
from .tables import deliveries_json, headroom_json, metric_rows, metrics_json


def print_results(results: Sequence[Daily | Unchecked]) -> None:
    """Print each strategy: a title with its times, and a line for each figure."""
    for number, result in enumerate(results):
        if number:
            print_message("")
        print_message(_title(result), style="bold")
        print_table(("", ""), list(_rows(result)))


def exit_code(results: Sequence[Daily | Unchecked]) -> Exit:
    """The worst strategy's: one that could not be checked is worse than an alert."""
    codes = {_exit_code_of(result) for result in results}
    return next(code for code in (Exit.ERROR, Exit.ALERT, Exit.NO, Exit.OK) if code in codes)


def _exit_code_of(result: Daily | Unchecked) -> Exit:
    if isinstance(result, Unchecked):
        return Exit.ERROR
    if result.alerts:
        return Exit.ALERT
    return Exit.OK if result.healthy else Exit.NO


def _title(result: Daily | Unchecked) -> str:
    if isinstance(result, Unchecked):
        return result.strategy_id
    return (
        f"{result.strategy_id} {result.session}, closed {result.closed_at:%Y-%m-%d %H:%M} UTC, "
        f"computed {result.computed_at:%Y-%m-%d %H:%M} UTC"
    )


def _rows(result: Daily | Unchecked) -> Iterator[tuple[str, str]]:
    """A label, and a value with its explanation in brackets."""
    if isinstance(result, Unchecked):
        yield "error", result.error
        return
    fresh = sum(not feature.is_stale for feature in result.features)
    yield "features", _explained(f"{fresh} of {len(result.features)} fresh", _stale(result))
    model = f"{result.model.name} {result.model.version}".strip() or "unknown"
    yield "model", _explained(model, _registered(result))
    for name, value, reason in metric_rows(result.metrics, result.limits, result.last_known):
        yield name, _explained(value or "none", reason)
    for index, line in enumerate(result.cautions):
        yield "" if index else "caution", line
    for index, line in enumerate(result.metrics.remarks):
        yield "" if index else "note", line
    for index, delivery in enumerate(result.undelivered):
        yield "" if index else "undelivered", _undelivered(delivery)
    for index, line in enumerate(result.decision):
        yield "" if index else "decision", line


def _undelivered(delivery: Delivery) -> str:
    tries = f"{delivery.attempts} attempt{'s' if delivery.attempts > 1 else ''}"
    return (
        f"{delivery.target}: {delivery.last_error} ({tries}, queued {delivery.queued_at:%Y-%m-%d})"
    )


def _explained(value: str, reason: str) -> str:
    return f"{value} ({reason})" if reason else value


def _stale(result: Daily) -> str:
    stale = [
        f"{f.feature_name} since {f.event_time:%Y-%m-%d}" if f.event_time else f.feature_name
        for f in result.features
        if f.is_stale
    ]
    return f"stale: {', '.join(stale)}" if stale else ""


def _registered(result: Daily) -> str:
    model = result.model
    created = f"created {model.created:%Y-%m-%d}" if model.created else ""
    differs = f"but champion is {model.champion}" if model.champion else ""
    aliases = [f"@{alias}" for alias in model.aliases]
    return ", ".join(filter(None, [model.note, created, *aliases, differs]))


def as_json(result: Daily | Unchecked) -> dict[str, Any]:
    """One strategy's result for `--json`."""
    if isinstance(result, Unchecked):
        return {"strategy_id": result.strategy_id, "error": result.error}
    return {
        "strategy_id": result.strategy_id,
        "session": result.session,
        "closed_at": result.closed_at,
        "computed_at": result.computed_at,
        "healthy": result.healthy,
        "features": [feature.to_dict() for feature in result.features],
        "model": result.model,
        "metrics": metrics_json(result.metrics),
        "limits": headroom_json(result.limits),
        "alerts": result.alerts,
        "cautions": result.cautions,
        "retraining": result.retraining,
        "undelivered": deliveries_json(result.undelivered),
        "decision": result.decision,
    }
