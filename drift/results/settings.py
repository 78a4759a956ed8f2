"""How a strategy is watched, as it is remembered in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlflow_timescale.common.settings import NOTIFY

from ..alerts import presets
from ..alerts.rules import Rule
from ..computation.judging import Config
from .drift_metrics import AlertConfig

STORED = ("signal", "model_name", "features", "min_n", "periods_per_year", "rules")

Rules = str | AlertConfig | Sequence[Rule]


def config(strategy_id: str, calendar: str, settings: Mapping[str, Any]) -> Config:
    """What is remembered of a strategy, with defaults for the rest."""
    stored = {key: settings[key] for key in STORED if settings.get(key) is not None}
    stored["rules"] = from_json(stored.get("rules", "default"))
    if "features" in stored:
        stored["features"] = tuple(stored["features"])
    stored.setdefault("periods_per_year", 365 if calendar == "24/7" else 252)
    return Config(strategy_id, **stored)


def as_json(rules: Rules) -> Any:
    """Rules as they are remembered. Raises ValueError for a preset that is none."""
    if isinstance(rules, str):
        presets.preset(rules)
        return rules
    found = rules.rules() if isinstance(rules, AlertConfig) else rules
    return [rule.to_dict() for rule in found]


def from_json(rules: Any) -> tuple[Rule, ...]:
    """The rules that `as_json` wrote."""
    if isinstance(rules, str):
        return presets.preset(rules)
    return tuple(Rule.from_dict(fields) for fields in rules)


def targets(given: Sequence[str] | None) -> tuple[str, ...]:
    """Whom to notify: as given, else MLFLOW_TIMESCALE_NOTIFY."""
    if isinstance(given, str):
        return (given,)
    if given is None:
        return NOTIFY.get()
    return tuple(given)
