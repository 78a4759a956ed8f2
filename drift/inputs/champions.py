"""Which version of a model was champion, and since when: from the registry's history.

Only this module of `drift` knows the tables of the registry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mlflow_timescale.db import Connection, load
from mlflow_timescale.db.rows import records, scalar

_queries = load("drift")


@dataclass(frozen=True)
class Championship:
    """A version of a model and the time in which the alias pointed to it.

    `until` is None while it does.
    """

    version: int
    since: datetime
    until: datetime | None
    changed_by: str
    reason: str

    def names(self, version: str) -> bool:
        """Whether a version as predictions name it, "3" or "v3", is this one."""
        return version.removeprefix("v") == str(self.version)

    def __str__(self) -> str:
        by = f", by {self.changed_by}" if self.changed_by else ""
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.version} (since {self.since:%Y-%m-%d}{by}{reason})"


def registered_models(conn: Connection) -> list[str]:
    """The names of the models that this database's registry knows; none without a registry."""
    if not scalar(conn, _queries.registry_exists):
        return []
    return [row[0] for row in conn.execute(_queries.registered_models)]


class Champions:
    """The champions of models over time, or the versions of another alias; read on first use."""

    def __init__(self, conn: Connection, alias: str = "champion") -> None:
        self._conn, self._alias = conn, alias
        self._read: dict[str, Sequence[Championship]] = {}

    def at(self, model: str, moment: datetime) -> Championship | None:
        """The champion of a model at a moment; None if there was none, or none is recorded."""
        for period in self._of(model):
            if period.since <= moment and (period.until is None or moment < period.until):
                return period
        return None

    def now(self, model: str) -> Championship | None:
        """The present champion of a model; None if it has none."""
        return next((period for period in self._of(model) if period.until is None), None)

    def between(self, model: str, start: datetime, end: datetime) -> list[Championship]:
        """The champions of a model that began in a period."""
        return [period for period in self._of(model) if start <= period.since < end]

    def begin(self, model: str) -> datetime | None:
        """The time before which nothing is recorded about a model's champion."""
        return min((period.since for period in self._of(model)), default=None)

    def _of(self, model: str) -> Sequence[Championship]:
        if model not in self._read:
            row = {"model": model, "alias": self._alias}
            exists = bool(model) and scalar(self._conn, _queries.registry_history_exists)
            self._read[model] = (
                records(self._conn, Championship, _queries.champions, row) if exists else ()
            )
        return self._read[model]
