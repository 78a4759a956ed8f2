"""Drift statistics alone on the same data: PSI of what was served, and the IC; no comparison.

What a monitor of serving logs sees: each feature that was served against its own first sessions, by
the same numerics and the same rules as those of the drift monitor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.incidents.faults import Planted, Served
from benchmarks.incidents.market import Market
from drift.alerts import presets
from drift.alerts.lifecycle import Alert
from drift.alerts.rules import evaluate
from drift.metrics import psi
from drift.metrics.psi import SessionPSI

REFERENCE = 100
RULES = tuple(
    replace(rule, inhibits=())
    for rule in presets.default()
    if rule.metric in ("psi_ratio", "psi_5d_ratio")
)


def judge(
    served: Served, market: Market, ic_alerts: Sequence[Alert], fault: Planted, last: int
) -> tuple[int | None, bool]:
    """Sessions until the first alert that opened in the fault, and whether it names the feature."""
    opened, worst = _opened(served, slice(0, last + 1))
    days = {day: number for number, day in enumerate(market.days)}
    after = [day for day in opened if day >= fault.start]
    after += [days[alert.session] for alert in ic_alerts if days[alert.session] >= fault.start]
    if not after:
        return None, False
    return min(after) - fault.start, worst.get(min(after)) in fault.features


def alarms(served: Served, sessions: slice) -> int:
    """How many alerts on distributions open in some sessions."""
    opened, _ = _opened(served, slice(0, sessions.stop))
    return sum(day >= sessions.start for day in opened)


def _opened(served: Served, sessions: slice) -> tuple[list[int], dict[int, str | None]]:
    single, pooled = _sessions(served, sessions)
    series = {
        "psi_ratio": [each.ratio for each in single],
        "psi_5d_ratio": [each.ratio for each in pooled],
    }
    transitions = evaluate(RULES, series).transitions()
    opened = [change.session for change in transitions if change.state == "open"]
    return opened, {day: single[day].feature for day in range(len(single))}


def _sessions(served: Served, sessions: slice) -> tuple[list[SessionPSI], list[SessionPSI]]:
    count = next(iter(served.features.values())).shape[1]
    days = np.repeat(np.arange(REFERENCE), count)
    references = {
        name: psi.fit(values[:REFERENCE].ravel(), days=days)
        for name, values in served.features.items()
    }
    single, pooled = [], []
    for day in range(sessions.stop):
        single.append(psi.session_psi(_of(served, references, day, 1)))
        pooled.append(psi.session_psi(_of(served, references, max(day, 4), 5)))
    return single, pooled


def _of(
    served: Served, references: dict[str, psi.Reference], day: int, together: int
) -> dict[str, psi.PSIResult]:
    rows = slice(day + 1 - together, day + 1)
    return {
        name: psi.psi(reference, served.features[name][rows].ravel(), sessions=together)
        for name, reference in references.items()
    }
