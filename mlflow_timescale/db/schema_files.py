"""The files of `sql/`: one-way steps, and the one current definition of every function and view.

    sql/<area>/NNN_what.sql           a migration: changes tables or data, applied once
    sql/<area>/functions/<name>.sql   the definition of a function, with its triggers
    sql/<area>/views/<name>.sql       the definition of a view
    sql/timescale/<area>/...          the same, where the server is a TimescaleDB
    sql/community/<area>/...          the same, where it is the Community edition

A definition in a higher tier replaces the one of the same name below it. The first lines of a file
are its header:

    --! requires: mlflow metrics_rebuild   facts about the database that it needs (see `facts`)
    --! requires: functions                the definitions of its area come first
    --! replaces: base/0001_metrics        migrations of an older layout that amount to this one
    --! oldest-client: 2                   clients of an older schema revision stop working
    --! no-transaction                     it cannot run in a transaction

`"@mlflow"` stands for the schema that holds MLflow's tables.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from mlflow_timescale.db.queries import SQL_PACKAGE

AREAS = ("tracking", "artifacts", "registry", "spool", "features", "drift")
TIERS = ("base", "timescale", "community")
KINDS = ("functions", "views")  # views are defined over functions
_HEADER = re.compile(r"^--! ([\w-]+)(?:: *(.*))?$", re.MULTILINE)
_MLFLOW = '"@mlflow"'


@dataclass(frozen=True)
class SchemaFile:
    """A file of `sql/`: its name ("tracking/001_search_indexes"), text and needs."""

    name: str
    sql: str
    area: str = ""
    tier: str = "base"
    requires: frozenset[str] = frozenset()

    def text(self, mlflow_schema: str | None) -> str:
        """The SQL to run, with the name of the schema of MLflow's tables filled in."""
        return self.sql.replace(_MLFLOW, mlflow_schema or _MLFLOW)

    def header(self, key: str) -> str | None:
        """The value of a header line; "" for one without a value, None if it is absent."""
        return next((value or "" for name, value in _HEADER.findall(self.sql) if name == key), None)


@dataclass(frozen=True)
class Migration(SchemaFile):
    """A one-way step."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def replaces(self) -> frozenset[str]:
        return frozenset((self.header("replaces") or "").split())

    @property
    def oldest_client(self) -> int:
        return int(self.header("oldest-client") or 1)

    @property
    def in_transaction(self) -> bool:
        return self.header("no-transaction") is None


@dataclass(frozen=True)
class Definition(SchemaFile):
    """The current text of a function with its triggers, or of a view."""

    kind: str = "functions"

    def sha256(self, mlflow_schema: str | None) -> str:
        """The hash of the SQL to run: it changes with the text and with MLflow's schema."""
        return hashlib.sha256(self.text(mlflow_schema).encode()).hexdigest()


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations that this version ships, by area and number, across the tiers."""
    return tuple(
        sorted(
            (_migration(tier, area, entry) for tier, area, entry in _entries(kind=None)),
            key=lambda item: (AREAS.index(item.area), item.name.rpartition("/")[2]),
        )
    )


@cache
def definitions() -> tuple[Definition, ...]:
    """All definitions that this version ships, functions before views, in the order of areas."""
    return tuple(
        _definition(tier, area, kind, entry)
        for kind in KINDS
        for tier, area, entry in sorted(
            _entries(kind), key=lambda item: (AREAS.index(item[1]), item[2].name)
        )
    )


def _entries(kind: str | None) -> Iterator[tuple[str, str, Traversable]]:
    for tier in TIERS:
        root = files(SQL_PACKAGE) / tier if tier != "base" else files(SQL_PACKAGE)
        for area in AREAS:
            folder = root / area / kind if kind else root / area
            if folder.is_dir():  # a wheel has no folder without a file
                for entry in folder.iterdir():
                    if entry.name.endswith(".sql") and (kind or entry.name[0].isdigit()):
                        yield tier, area, entry


def _migration(tier: str, area: str, entry: Traversable) -> Migration:
    sql = entry.read_text(encoding="utf-8")
    name = f"{area}/{entry.name.removesuffix('.sql')}"
    return Migration(_in_tier(tier, name), sql, area, tier, _requires(tier, sql))


def _definition(tier: str, area: str, kind: str, entry: Traversable) -> Definition:
    sql = entry.read_text(encoding="utf-8")
    name = f"{area}/{kind}/{entry.name.removesuffix('.sql')}"
    return Definition(name, sql, area, tier, _requires(tier, sql), kind)


def _in_tier(tier: str, name: str) -> str:
    return name if tier == "base" else f"{tier}/{name}"


def _requires(tier: str, sql: str) -> frozenset[str]:
    needs = " ".join(value for name, value in _HEADER.findall(sql) if name == "requires").split()
    return frozenset({*needs, *TIERS[1 : TIERS.index(tier) + 1]})
