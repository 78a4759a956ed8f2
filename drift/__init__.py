"""A drift monitor: IC, PSI and Sharpe per session, alerts whose false-alarm rate is known."""

from __future__ import annotations

from drift.alerts import Alert
from drift.metrics import calculate_ic, calculate_psi, calculate_sharpe
from drift.monitor import DriftMonitor
from drift.results import AlertConfig, DriftMetrics
from drift.rules import Rule

__all__ = [
    "Alert",
    "AlertConfig",
    "DriftMetrics",
    "DriftMonitor",
    "Rule",
    "calculate_ic",
    "calculate_psi",
    "calculate_sharpe",
]
