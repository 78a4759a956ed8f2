"""A drift monitor: IC, PSI and Sharpe per session, alerts whose false-alarm rate is known.

`Serving` is its memory of what live code predicted, from what.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .alerts.lifecycle import Alert
    from .alerts.rules import Rule
    from .metrics import calculate_ic, calculate_psi, calculate_sharpe
    from .monitor import DriftMonitor
    from .results.drift_metrics import AlertConfig, DriftMetrics
    from .serving.live import Serving

# Imported when first used: the numbers need no database driver.
_HOMES = {
    "Alert": "alerts.lifecycle",
    "AlertConfig": "results.drift_metrics",
    "DriftMetrics": "results.drift_metrics",
    "DriftMonitor": "monitor",
    "Rule": "alerts.rules",
    "Serving": "serving.live",
    "calculate_ic": "metrics",
    "calculate_psi": "metrics",
    "calculate_sharpe": "metrics",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = [
    "Alert",
    "AlertConfig",
    "DriftMetrics",
    "DriftMonitor",
    "Rule",
    "Serving",
    "calculate_ic",
    "calculate_psi",
    "calculate_sharpe",
]
