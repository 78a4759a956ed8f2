"""What `incident skew` prints. Loads numpy; imported when the command runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

from mlflow_timescale.cli.kit import Cell
from mlflow_timescale.db import Error

from ..alerts.lifecycle import Alert
from ..monitor import DriftMonitor
from ..serving import memory
from ..skew.clock import signed
from ..skew.mornings import METRIC
from ..skew.reconciliation import FeatureSkew, Reconciliation
from ..skew.sentences import (
    NOT_INDEPENDENT,
    clock_text,
    counted,
    finding_text,
    percent,
    revision_text,
)


def span(monitor: DriftMonitor, start: date | None, end: date | None) -> tuple[date, date]:
    """The range as given, or the last session served. Raises Error if nothing was served."""
    if start is not None:
        return start, end or start
    with monitor.connect() as conn:
        last = memory.last_session(conn, monitor.strategy.strategy_id)
    if last is None:
        raise Error(
            f"nothing that {monitor.strategy_id!r} served is recorded: record predictions and "
            f"features with `mlflow_timescale.Serving`"
        )
    return last, last


def first_alert(monitor: DriftMonitor, result: Reconciliation) -> Alert | None:
    """The first skew alert that was open in the range; None for none."""
    alerts = [
        alert
        for alert in monitor.alerts(since=result.start)
        if alert.metric == METRIC and alert.session <= result.end
    ]
    return min(alerts, key=lambda alert: alert.session, default=None)


def title(result: Reconciliation) -> str:
    """The range, and how much was served."""
    days = f"{result.start}" + (f" to {result.end}" if result.end != result.start else "")
    return (
        f"{result.strategy_id}  {days}, {counted(result.sessions, 'session')}, "
        f"{counted(result.entities, 'name')}, {result.cells:,} cells served"
    )


def rows(result: Reconciliation) -> Iterator[tuple[Any, Any, Any, Any]]:
    """A row for each feature, and further rows for further findings."""
    for feature in result.features:
        lines = list(_lines(feature, result))
        since, text = lines[0] if lines else ("", "")
        style = "red" if feature.differing else ""
        yield feature.feature, Cell(percent(feature), style), since, text
        for since, text in lines[1:]:
            yield "", "", since, text


def _lines(feature: FeatureSkew, result: Reconciliation) -> Iterator[tuple[Any, str]]:
    for found in feature.findings:
        yield found.first, finding_text(found, result)
    for change in feature.clocks:
        yield change.first, clock_text(change)
    if feature.revised is not None:
        yield feature.revised.first, revision_text(feature.revised)


def summary(result: Reconciliation, alert: Alert | None) -> Iterator[str]:
    """What is wrong for how long, what was compared, and the alert."""
    wrong = [feature for feature in result.features if feature.is_fault]
    sessions = {day for feature in wrong for day in feature.by_session}
    opened = f" First alert: {alert.alert_id} ({alert.session})." if alert else ""
    if wrong:
        count, days = counted(len(wrong), "feature"), counted(len(sessions), "session")
        yield f"{count} wrong in {days}.{opened}"
    elif result.cells:
        yield f"Every served value that was compared agrees with research.{opened}"
    else:
        yield "Nothing was served in these sessions."
    sources = sorted({feature.source for feature in result.features})
    if sources:
        yield f"Compared with {', '.join(sources)}."
    if any(not feature.is_independent for feature in result.features):
        yield NOT_INDEPENDENT
    if result.not_compared:
        yield f"Not compared, no research has them: {', '.join(result.not_compared)}."


def as_json(result: Reconciliation, alert: Alert | None) -> dict[str, Any]:
    """The result for `--json`."""
    return {
        "strategy_id": result.strategy_id,
        "start": result.start,
        "end": result.end,
        "sessions": result.sessions,
        "names": result.entities,
        "cells": result.cells,
        "differing": result.differing,
        "agrees": result.agrees,
        "features": [_feature_json(feature) for feature in result.features],
        "not_compared": result.not_compared,
        "first_alert": alert and {"alert_id": alert.alert_id, "session": alert.session},
    }


def _feature_json(feature: FeatureSkew) -> dict[str, Any]:
    return {
        "feature": feature.feature,
        "cells": feature.cells,
        "differing": feature.differing,
        "matches": feature.matches,
        "source": feature.source,
        "independent": feature.is_independent,
        "by_session": feature.by_session,
        "findings": [{**vars(found), "share": found.share} for found in feature.findings],
        "clocks": [{**vars(change), "moved": signed(change.moved)} for change in feature.clocks],
        "revised": feature.revised,
    }
