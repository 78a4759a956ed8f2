"""A strategy: how it is watched, and the calendar that its sessions are on."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb

from mlflow_timescale.common.calendar_overrides import read_calendar
from mlflow_timescale.common.calendars import TradingCalendar, UnknownCalendar, canonical_name
from mlflow_timescale.common.text import check_text, printable
from mlflow_timescale.db import Connection, Error, load

from .alerts import presets
from .alerts.rules import Rule
from .inputs import feature_values
from .inputs.sources import is_table
from .results.drift_metrics import AlertConfig

_queries = load("drift")
DEFAULT_CALENDAR = "XNYS"
_STORED = (
    "signal",
    "model_name",
    "model_version",
    "features",
    "ranked",
    "min_n",
    "periods_per_year",
    "rules",
    "research",
    "tolerances",
)

Rules = str | AlertConfig | Sequence[Rule]


# "drift/<name>" is the name of an experiment in MLflow, whose column has 256 characters.
LONGEST_NAME = 250


class InvalidStrategyName(Error, ValueError):
    """A name under which no strategy can be recorded."""


class UnknownFeatures(UserWarning):
    """Features to watch that the feature store of the database does not have."""


class UnknownStrategy(Error, LookupError):
    """A strategy that is not recorded."""


@dataclass(frozen=True)
class Strategy:
    """A recorded strategy.

    `features` are the names of the features to watch; None stands for those of the reference.
    `ranked` compares their ranks across names, from the next accepted reference on.
    `min_n` is the number of names below which a session has no IC. `research` and `tolerances` are
    those of `DriftMonitor.reconcile`, of every morning: files and versions by feature.
    """

    strategy_id: str
    calendar: TradingCalendar
    rules: tuple[Rule, ...]
    signal: str = "signal"
    model_name: str = ""
    model_version: str = ""
    features: tuple[str, ...] | None = None
    ranked: bool = False
    min_n: int = 20
    periods_per_year: float = 252
    research: Mapping[str, str | int] = field(default_factory=dict)
    tolerances: Mapping[str, float] = field(default_factory=dict)

    @property
    def judging(self) -> tuple[Rule, ...]:
        """The rules, and that on served features, which holds without being chosen."""
        return presets.with_served(self.rules)


def read(conn: Connection, strategy_id: str) -> Strategy:
    """A recorded strategy. Raises UnknownStrategy, which names those with a similar name."""
    row = conn.execute(_queries.strategy, {"strategy_id": strategy_id}).fetchone()
    if row is None:
        raise _unknown(conn, strategy_id)
    calendar, stored = str(row[0]), row[2]
    options = {key: stored[key] for key in _STORED if stored.get(key) is not None}
    options["rules"] = rules_from_json(options.get("rules", "default"))
    if "features" in options:
        options["features"] = tuple(options["features"])
    for name in ("research", "tolerances"):
        options[name] = json.loads(options.get(name, "{}"))
    options.setdefault("periods_per_year", 365 if calendar == "24/7" else 252)
    return Strategy(strategy_id, read_calendar(conn, calendar), **options)


def record(
    conn: Connection,
    strategy_id: str,
    calendar: str | None,
    options: Mapping[str, Any],
    *,
    create: bool,
) -> None:
    """Store the options that are given; with `create` also a strategy that is not recorded.

    Raises UnknownCalendar, and Error if data of the strategy is recorded on another calendar;
    InvalidStrategyName for a new name that MLflow could not hold, InvalidText for an option with
    NUL or a lone surrogate.
    """
    check_text(dict(options), "settings")
    name = canonical_name(calendar or DEFAULT_CALENDAR)  # before the insert: it raises
    row = {
        "strategy_id": strategy_id,
        "calendar": name,
        "settings": Jsonb(dict(options)),
    }
    stored = conn.execute(_queries.strategy, {"strategy_id": strategy_id}).fetchone()
    if stored is None and create:
        check_name(strategy_id)
        conn.execute(_queries.add_strategy, row)
        stored = conn.execute(_queries.strategy, {"strategy_id": strategy_id}).fetchone()
    if stored and calendar is not None and not _is_same(stored[0], name):
        _change_calendar(conn, row, stored[0])
    if options:
        conn.execute(_queries.update_strategy, row)


def _is_same(stored: str, name: str) -> bool:
    try:
        return canonical_name(stored) == name
    except UnknownCalendar:  # stored by an earlier version
        return False


def _change_calendar(conn: Connection, row: Mapping[str, Any], stored: str) -> None:
    """Store another calendar. Raises Error if sessions of the strategy are recorded."""
    if not conn.execute(_queries.change_calendar, row).rowcount:
        raise Error(
            f"strategy {row['strategy_id']!r} is recorded on calendar {stored}, not "
            f"{row['calendar']}: its sessions would not match; use another strategy_id"
        )


def warn_of_unknown_features(conn: Connection, features: Sequence[str]) -> None:
    """Warn of features that the store has not, if it has any."""
    if not features or not feature_values.exist(conn):
        return
    stored = feature_values.names(conn)
    unknown = [name for name in features if stored and name not in stored]
    if unknown:
        listed = ", ".join(f"{name!r}{_similar(name, stored)}" for name in unknown)
        warnings.warn(
            f"the feature store has no {listed}; its features are: "
            f"{printable(', '.join(stored[:10]))}{', ...' if len(stored) > 10 else ''}",
            UnknownFeatures,
            stacklevel=3,
        )


def check_name(strategy_id: str) -> None:
    """Raise InvalidStrategyName for a name that is empty, or longer than MLflow can hold.

    >>> check_name("momentum")
    """
    if not strategy_id.strip():
        raise InvalidStrategyName(f"strategy name {strategy_id!r} is empty")
    if len(strategy_id) > LONGEST_NAME:
        raise InvalidStrategyName(
            f"strategy name {strategy_id[:20]!r}... has {len(strategy_id)} characters; its "
            f"experiment in MLflow has room for {LONGEST_NAME}: use a shorter one"
        )


def names(conn: Connection) -> list[str]:
    """The recorded strategies."""
    return [row[0] for row in conn.execute(_queries.strategies)]


def rules_as_json(rules: Rules) -> Any:
    """Rules as they are stored. Raises ValueError for an unknown preset."""
    if isinstance(rules, str):
        presets.preset(rules)
        return rules
    rules = rules.rules() if isinstance(rules, AlertConfig) else rules
    return [rule.to_dict() for rule in rules]


def as_rules(rules: Rules) -> tuple[Rule, ...]:
    """Rules in any form. Raises ValueError for an unknown preset."""
    return rules_from_json(rules_as_json(rules))


def rules_from_json(rules: Any) -> tuple[Rule, ...]:
    """The rules that `rules_as_json` gave."""
    if isinstance(rules, str):
        return presets.preset(rules)
    return tuple(Rule.from_dict(fields) for fields in rules)


def options_as_json(
    *,
    rules: Rules | None,
    features: Sequence[str] | None,
    research: Mapping[str, Any] | None = None,
    tolerances: Mapping[str, float] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """The options that are given, as they are stored.

    Raises ValueError for an unknown preset, for features that are neither "raw", "ranked" nor
    names, and for research that cannot be stored.
    """
    # As texts: an update leaves out what the stored settings contain, and a part is contained.
    options["research"] = None if research is None else json.dumps(_storable(research))
    options["tolerances"] = None if tolerances is None else json.dumps(dict(tolerances))
    if isinstance(features, str):
        options["ranked"], features = _is_ranked(features), None
    options["features"] = None if features is None else list(features)
    options["rules"] = None if rules is None else rules_as_json(rules)
    return {name: value for name, value in options.items() if value is not None}


def _storable(research: Mapping[str, Any]) -> dict[str, str | int]:
    stored: dict[str, str | int] = {}
    for name, source in research.items():
        if hasattr(source, "features") and hasattr(source, "version"):  # a FeatureView
            stored |= dict.fromkeys(source.features, int(source.version))
        elif isinstance(source, (str, int, Path)):
            stored[name] = source if isinstance(source, int) else _place(source)
        else:
            raise ValueError(
                f"research of {name!r} is a {type(source).__name__}, which cannot be stored: give "
                f"a file, a table, a version or a FeatureView, or pass it to `reconcile`"
            )
    return stored


def _place(source: str | Path) -> str:
    """The name of a table, or the absolute path of a file."""
    return str(source) if is_table(source) else str(Path(source).absolute())


def _is_ranked(features: str) -> bool:
    if features not in ("raw", "ranked"):
        raise ValueError(f'features is {features!r}, want "raw", "ranked", or a list of names')
    return features == "ranked"


def _unknown(conn: Connection, strategy_id: str) -> UnknownStrategy:
    recorded = names(conn)
    return UnknownStrategy(
        f"no strategy {strategy_id!r}{_similar(strategy_id, recorded)}; recorded are: "
        f"{', '.join(recorded) or 'none yet'}. Use `drift record` or DriftMonitor.configure() first"
    )


def _similar(name: str, names: Sequence[str]) -> str:
    similar = get_close_matches(name, names, n=3)
    return f" (did you mean {' or '.join(map(repr, similar))}?)" if similar else ""
