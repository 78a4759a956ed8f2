"""Runs with params, tags and points: new runs are copied, others get what they lack."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any, ClassVar, cast

import psycopg
from mlflow.store.db.base_sql_model import Base
from psycopg import sql
from sqlalchemy import Table, func, select

from mlflow_timescale import db
from mlflow_timescale.db import Connection
from mlflow_timescale.db.rows import if_migrated, pairs
from mlflow_timescale.operations.bringing import copying
from mlflow_timescale.operations.bringing.experiments import Experiments, absolute
from mlflow_timescale.operations.bringing.kinds import hash_of
from mlflow_timescale.operations.bringing.sources import OpenSource

_queries = db.load("merging")
# Runs first: the others refer to them. Points last: no extreme takes the name of a metric.
TABLES = ("runs", "params", "tags", "latest_metrics", "metrics")
_HEAD = ("status", "end_time", "deleted_time", "lifecycle_stage", "name", "artifact_uri")
_FEW = 500  # ids in one condition: sqlite takes 32,766


@dataclass(frozen=True)
class RunHead:
    """A run of the source, with a hash of its contents, its status and its number of points.

    `location` is the location of its artifacts.
    """

    run_id: str
    mark: str
    status: str | None
    points: int
    location: str | None = None


@dataclass
class Outcome:
    """The result of a batch: rows by table, runs that grew, conflicts, tags that differ."""

    rows: dict[str, int] = field(default_factory=dict)
    grown: set[str] = field(default_factory=set)
    conflicts: list[tuple[str, str]] = field(default_factory=list)
    different: list[str] = field(default_factory=list)


def _table(name: str) -> Table:
    return cast("Table", Base.metadata.tables[name])


def heads(source: OpenSource) -> dict[str, RunHead]:
    """The runs of a source, ordered by start time.

    The mark of a run in a database is a hash of its own columns, its tags, params and last points,
    and of how many points, inputs and outputs it has. Numbers alone would be the same in two copies
    of a run that went on apart.
    """
    runs = _table("runs")
    points = _counts(source, "metrics", "run_uuid")
    others: list[Mapping[str, Any]] = [
        _hashed(source, "tags", "value"),
        _hashed(source, "params", "value"),
        _hashed(source, "latest_metrics", "step", "timestamp", "value"),
        _counts(source, "inputs", "destination_id"),
        _counts(source, "inputs", "source_id"),
    ]
    columns = [runs.c.run_uuid, *(runs.c[name] for name in _HEAD)]
    query = select(*columns).order_by(runs.c.start_time, runs.c.run_uuid)
    result = {}
    for row in source.rows.execute(query).mappings():
        run_id = row["run_uuid"]
        contents = [*row.values(), points.get(run_id)]
        contents += [each.get(run_id) for each in others]
        mark = source.marks.get(run_id) or hash_of(repr(contents))
        location = absolute(row["artifact_uri"], source.home)
        result[run_id] = RunHead(run_id, mark, row["status"], points.get(run_id, 0), location)
    return result


def _counts(source: OpenSource, table: str, column: str) -> dict[str, int]:
    run = _table(table).c[column]
    result = source.rows.execute(select(run, func.count()).group_by(run))
    return {row[0]: row[1] for row in result}


def _hashed(source: OpenSource, name: str, *values: str) -> dict[str, str]:
    """A hash of the keys and values that a run has in a table."""
    table = _table(name)
    columns = [table.c[column] for column in ("run_uuid", "key", *values)]
    query = select(*columns).where(*copying.not_generated(source.rows, table))
    query = query.order_by(table.c.run_uuid, table.c.key)
    rows = source.rows.execution_options(yield_per=10_000).execute(query)
    return {run_id: hash_of(repr([*of_run])) for run_id, of_run in groupby(rows, key=itemgetter(0))}


def _hash_of_tag(value: str | None) -> str:
    return hash_of(value or "")[:12]


@dataclass
class RunRows:
    """Writes the runs of a source; a call is part of the caller's transaction."""

    source: OpenSource
    conn: Connection
    experiments: Experiments
    changes: bool
    refusals: ClassVar = (psycopg.DataError, psycopg.IntegrityError, UnicodeEncodeError)

    def add_new(self, batch: Sequence[RunHead]) -> Outcome:
        """Copy runs that the target does not have."""
        outcome = Outcome()
        tags: dict[str, dict[str, str]] = {}
        for name in TABLES:
            rows = self.rows(name, batch)
            if name == "tags":
                rows = _noted(rows, tags)
            target = sql.Identifier(name)
            outcome.rows[name] = copying.copy_into(self.conn, target, _table(name), rows)
        self.conn.execute(_queries.forget_last_writes, {"runs": _ids(batch)})
        self.remember(batch, tags)
        return outcome

    def add_to(self, batch: Sequence[RunHead]) -> Outcome:
        """Add to runs of the target what they lack; a run with another param does not change."""
        outcome = Outcome()
        earlier = pairs(self.conn, _queries.remembered_tags, {"runs": _ids(batch)})
        tags: dict[str, dict[str, str]] = {}
        for name in TABLES:
            rows = self.rows(name, batch)
            if name == "tags":
                rows = (row for row in _noted(rows, tags) if _is_news(row, earlier))
            copying.stage(self.conn, _table(name), rows)
        self._leave_conflicts(outcome)
        left = {run_id for run_id, _ in outcome.conflicts}
        batch = [head for head in batch if head.run_id not in left]
        overwritten = [*earlier] if self.changes else []
        self._add_staged(outcome, overwritten)
        self.remember(batch, tags)
        return outcome

    def _leave_conflicts(self, outcome: Outcome) -> None:
        rows = self.conn.execute(_queries.changed_params).fetchall()
        for run_id, changed in groupby(rows, key=itemgetter(0)):
            texts = [
                f"param {key!r} is {here!r} here, not {there!r}" for _, key, here, there in changed
            ]
            outcome.conflicts.append((run_id, "; ".join(texts)))
        runs = [run_id for run_id, _ in outcome.conflicts]
        for name in TABLES if runs else ():
            stage = copying.stage_of(_table(name))
            self.conn.execute(_queries.drop_staged_runs.format(stage=stage), {"runs": runs})

    def _add_staged(self, outcome: Outcome, overwritten: list[str]) -> None:
        values = {"overwritten": overwritten}
        different = self.conn.execute(_queries.different_tags, values).fetchall()
        outcome.different += [f"run {run_id}: tag {key!r}" for run_id, key in different]
        self._run(outcome, "tags", _queries.set_tags, values)
        self._run(outcome, "tags", _queries.add_tags)
        self.conn.execute(_queries.rename_runs)
        self._run(outcome, "params", _queries.add_params)
        if_migrated(self.conn, _queries.claim_names)
        self.conn.execute(_queries.raise_latest)
        self._run(outcome, "metrics", _queries.add_points)
        self._run(outcome, "ended runs", _queries.end_runs)

    def _run(
        self, outcome: Outcome, table: str, query: Any, values: dict[str, Any] | None = None
    ) -> None:
        """Run a statement that returns the changed runs, with the number of rows of each."""
        changed = pairs(self.conn, query, values)
        outcome.grown.update(changed)
        outcome.rows[table] = outcome.rows.get(table, 0) + sum(changed.values())

    def rows(self, name: str, batch: Sequence[RunHead]) -> Iterator[copying.Row]:
        """The rows of runs in one of MLflow's tables."""
        table = _table(name)
        ids = _ids(batch)
        for first in range(0, len(ids), _FEW):
            few = table.c.run_uuid.in_(ids[first : first + _FEW])
            rows = copying.read_rows(self.source.rows, table, few)
            yield from copying.converted(table, rows, self._placed) if name == "runs" else rows

    def _placed(self, run: dict[str, Any]) -> dict[str, Any]:
        return {
            **run,
            "experiment_id": self.experiments.id_here(run["experiment_id"]),
            "artifact_uri": absolute(run["artifact_uri"], self.source.home),
        }

    def remember(self, batch: Sequence[RunHead], tags: dict[str, dict[str, str]]) -> None:
        """Store the marks and statuses of runs, with the hashes of their tags."""
        values = {
            "runs": _ids(batch),
            "marks": [head.mark for head in batch],
            "statuses": [head.status for head in batch],
            "tags": [json.dumps(tags.get(head.run_id, {})) for head in batch],
        }
        self.conn.execute(_queries.remember, values)


def remember_all(source: OpenSource, conn: Connection) -> None:
    """Remember all runs of a source after `import` copied whole tables."""
    writer = RunRows(source, conn, Experiments(), changes=False)
    ordered = [*heads(source).values()]
    for first in range(0, len(ordered), _FEW):
        batch = ordered[first : first + _FEW]
        tags: dict[str, dict[str, str]] = {}
        for _ in _noted(writer.rows("tags", batch), tags):
            pass
        writer.remember(batch, tags)


def _ids(batch: Sequence[RunHead]) -> list[str]:
    return [head.run_id for head in batch]


@cache
def _columns_of_tags() -> tuple[int, int, int]:
    """The positions of run, key and value in a row of `tags`."""
    names = [column.name for column in copying.columns_of(_table("tags"))]
    return names.index("run_uuid"), names.index("key"), names.index("value")


def _noted(rows: Iterator[copying.Row], tags: dict[str, dict[str, str]]) -> Iterator[copying.Row]:
    """Pass on rows of tags, and enter their hashes into `tags`."""
    run, key, value = _columns_of_tags()
    for row in rows:
        tags.setdefault(row[run], {})[row[key]] = _hash_of_tag(row[value])
        yield row


def _is_news(row: copying.Row, earlier: dict[str, dict[str, str]]) -> bool:
    """Whether a tag has changed in the source since its run was brought."""
    run, key, value = _columns_of_tags()
    return earlier.get(row[run], {}).get(row[key]) != _hash_of_tag(row[value])
