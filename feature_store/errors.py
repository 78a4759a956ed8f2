"""The errors of the feature store: what was wrong, the value, what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mlflow_timescale.common.errors import (
    InvalidFrame,
    InvalidInput,
    InvalidTime,
    UnknownCalendar,
    did_you_mean,
)

__all__ = [
    "ConflictingValues",
    "DefinitionError",
    "FeatureError",
    "InvalidFrame",
    "InvalidName",
    "InvalidTime",
    "InvalidValue",
    "UnknownCalendar",
    "UnknownFeature",
    "WriteContention",
    "unknown_feature",
]


# Base of everything that the feature store refuses: the errors below, and the shared ones about
# frames, times and calendars.
FeatureError = InvalidInput


class InvalidValue(FeatureError, ValueError):
    """A value that is neither a finite number, NaN, nor a JSON structure."""


class InvalidName(InvalidFrame):
    """A name of an entity, a feature or a column that cannot be kept, or stands for two things."""


class UnknownFeature(FeatureError, KeyError):
    """A feature name, or a version of it, that matches nothing."""

    def __str__(self) -> str:
        return str(self.args[0])


class DefinitionError(FeatureError, ValueError):
    """A definition, or a write, that contradicts what is registered."""


class WriteContention(FeatureError):
    """Two writers blocked each other; the database ended this one, and nothing was written."""


class ConflictingValues(FeatureError, ValueError):
    """Another value is already stored at the same (series, event_time, ingest_time).

    `rows` holds up to ten of them, as dictionaries; nothing of the whole write was stored.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], total: int, advice: str) -> None:
        self.rows, self.total = list(rows), total
        shown = "; ".join(_conflict(row) for row in rows)
        more = f" (and {total - len(rows)} more)" if total > len(rows) else ""
        super().__init__(f"{total} value(s) contradict what is stored: {shown}{more}. {advice}")


def _conflict(row: dict[str, Any]) -> str:
    return (
        f"{row['entity_key']} {row['feature_name']} v{row['feature_version']} "
        f"event_time={row['event_time'].isoformat()} ingest_time={row['ingest_time'].isoformat()} "
        f"has {row['stored']!r}, got {row['given']!r}"
    )


def unknown_feature(names: Iterable[str], known: Iterable[str]) -> UnknownFeature:
    """Name what matches nothing, and what it may have been meant to be."""
    known = list(known)
    parts = [f"{name!r}{did_you_mean(name, known)}" for name in names]
    return UnknownFeature(
        f"no feature {', '.join(parts)} has ever been written; `mlflow-timescale features list` "
        f"shows what there is"
    )
