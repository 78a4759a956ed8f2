"""Whether the monitor's answers name the planted fault: its kind, where, and since when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np

from benchmarks.incidents.faults import Planted
from benchmarks.incidents.market import Market
from drift import DriftMonitor
from drift.alerts.lifecycle import Alert
from drift.skew.findings import Finding
from drift.skew.reconciliation import FeatureSkew, Reconciliation

# The rule that shows a fault, and the kind of finding that names it.
RULES = {"version": "version", "decay": "ic drift", "time zone": "feature clock"}
KINDS = {
    "late": "shifted",
    "unit": "scaled",
    "sign": "sign",
    "NaN as zero": "filled",
    "stale": "stale",
    "columns": "column",
    "tickers": "entities",
    "float32": "rounded",
}
WATCHED = ("skew", "version", "feature clock")  # rules that open for a fault only


@dataclass(frozen=True)
class Answers:
    """What the monitor answers about the sessions around a fault."""

    skew: Reconciliation
    versions: Any
    onset: Any

    @classmethod
    def of(cls, monitor: DriftMonitor, start: date, end: date, now: datetime) -> Answers:
        return cls(
            monitor.reconcile(start, end, now=now),
            monitor.served_versions(start, end),
            monitor.onset(),
        )


def shows(alerts: Sequence[Alert], fault: Planted, days: Sequence[date]) -> bool:
    """Whether an open alert is that of the fault."""
    since = [a for a in alerts if a.session >= days[fault.start]]
    if fault.kind == "decay":
        return any(alert.metric == "ic" for alert in since)
    if fault.kind == "revision":
        return False
    if fault.kind == "time zone":
        return any(alert.rule in ("skew", "feature clock") for alert in since)
    rule = RULES.get(fault.kind, "skew")
    return any(alert.rule == rule for alert in since)


def false_alerts(alerts: Sequence[Alert], fault: Planted, days: Sequence[date]) -> list[str]:
    """Alerts that open for a fault only, and that this one does not account for."""
    expected = {RULES.get(fault.kind, "skew")} if fault.kind not in ("decay", "revision") else set()
    if fault.kind == "time zone":
        expected = {"skew", "feature clock"}
    return [
        f"{alert.rule} {alert.session}"
        for alert in alerts
        if alert.rule in WATCHED
        and (alert.rule not in expected or alert.session < days[fault.start])
    ]


def is_right(answers: Answers, fault: Planted, market: Market) -> tuple[bool, str]:
    """Whether the answers name the fault, and what they are in a line."""
    if fault.kind == "version":
        return _version(answers.versions, fault, market)
    if fault.kind == "decay":
        return _decay(answers, fault, market)
    skew = {feature.feature: feature for feature in answers.skew.features}
    text = "; ".join(_line(feature) for feature in skew.values() if _line(feature))
    others = [f for name, f in skew.items() if name not in fault.features]
    if any(feature.differing or feature.clocks or feature.revised for feature in others):
        return False, text
    planted = [skew[name] for name in fault.features if name in skew]
    if fault.kind == "revision":
        return all(_revised(f, fault, market) for f in planted) and answers.skew.agrees, text
    if fault.kind == "time zone":
        return all(_moved(feature, fault, market) for feature in planted), text
    return all(_is_found(feature, fault, market) for feature in planted), text


def _line(feature: FeatureSkew) -> str:
    found = [f"{f.kind} {f.text} ({f.cells}/{f.differing} {f.first})" for f in feature.findings]
    found += [f"clock {c.moved} {c.first}" for c in feature.clocks]
    if feature.revised:
        found.append(f"revised {feature.revised.cells} {feature.revised.median_factor}")
    return f"{feature.feature}: {', '.join(found)}" if found else ""


def _is_found(feature: FeatureSkew, fault: Planted, market: Market) -> bool:
    """One finding of the right kind and numbers, which explains all cells from the first day."""
    if len(feature.findings) != 1:
        return False
    [found] = feature.findings
    first = market.days[fault.start]
    return (
        found.kind == KINDS[fault.kind]
        and found.cells == found.differing
        and first <= found.first <= market.days[fault.start + 2]
        and _numbers(found, fault)
    )


def _numbers(found: Finding, fault: Planted) -> bool:
    numbers = found.parameters
    if fault.kind == "late":
        return numbers.get("sessions") == 1
    if fault.kind == "unit":
        return bool(np.isclose(numbers.get("factor", 0.0), fault.parameters["factor"]))
    if fault.kind == "NaN as zero":
        return "0" in found.text
    if fault.kind == "float32":
        return "float32" in found.text
    if fault.kind == "columns":
        return any(name in found.text for name in fault.features)
    if fault.kind == "tickers":
        return all(name in found.text for name in fault.names)
    return True


def _revised(feature: FeatureSkew, fault: Planted, market: Market) -> bool:
    revised, factor = feature.revised, fault.parameters["factor"]
    if revised is None or revised.median_factor is None:
        return False
    return (
        bool(np.isclose(revised.median_factor, factor))
        and revised.producer == "vendor"
        and revised.first == market.days[fault.start]
        and revised.last == market.days[fault.stop - 1]
    )


def _moved(feature: FeatureSkew, fault: Planted, market: Market) -> bool:
    hours = timedelta(hours=fault.parameters["hours"])
    first = market.days[fault.start]
    return any(change.moved == hours and change.first == first for change in feature.clocks)


def _version(versions: Any, fault: Planted, market: Market) -> tuple[bool, str]:
    text = "; ".join(f"{p.served} {p.first} {p.last} {p.verdict}" for p in versions.intervals)
    wrong = [part for part in versions.intervals if part.verdict == "differs"]
    ends = market.days[fault.start], market.days[fault.stop - 1]
    return len(wrong) == 1 and (wrong[0].first, wrong[0].last) == ends, text


def _decay(answers: Answers, fault: Planted, market: Market) -> tuple[bool, str]:
    if answers.onset is None:
        return False, "no onset"
    change, sessions = answers.onset
    low, high = sessions[change.low], sessions[change.high]
    text = f"onset {sessions[change.index]} [{low}, {high}], skew {answers.skew.differing}"
    start = market.days[fault.start]
    return answers.skew.differing == 0 and low <= start <= high, text


def explanation(monitor: DriftMonitor, end: date, now: datetime) -> Any:
    """The explanation of what is wrong in the sessions before `end`."""
    return monitor.explain(end=end, now=now, log=False)


def is_explained(explanation: Any, fault: Planted) -> bool:
    """Whether the first cause of the explanation, effects aside, is the fault.

    A low IC and the alerts on statistics may be effects of the fault.
    """
    kinds = {"time zone": "clock", "revision": "revision", "version": "version", "decay": "decay"}
    effects = {"alert"} if fault.kind == "decay" else {"alert", "decay"}
    causes = [cause for cause in explanation.causes if cause.kind not in effects]
    if not causes:
        return False
    kind = kinds.get(fault.kind, "skew")
    named = not fault.features or causes[0].subject in fault.features
    return causes[0].kind == kind and (named or fault.kind == "decay")
