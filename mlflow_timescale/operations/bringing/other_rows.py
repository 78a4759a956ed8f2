"""Entities of experiments other than runs: datasets, logged models, traces, scorers, reviews.

Their ids are globally unique, so that equal ids mean the same entity. `mlops.brought_entities`
remembers the contents of a source: only changed entities are read and compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import psycopg
from mlflow.store.db.base_sql_model import Base
from mlflow.utils.mlflow_tags import MLFLOW_ARTIFACT_LOCATION
from psycopg import sql
from sqlalchemy import Table, func, select

from mlflow_timescale import db
from mlflow_timescale.common.text import one_line
from mlflow_timescale.db import Connection
from mlflow_timescale.db.rows import pairs, scalar, scalars
from mlflow_timescale.operations.bringing import copying
from mlflow_timescale.operations.bringing.entity_rows import Additions, EntityRows, parents
from mlflow_timescale.operations.bringing.experiments import (
    Experiments,
    absolute,
    location_column,
    remember_tags,
)
from mlflow_timescale.operations.bringing.kinds import KINDS, Kind, Part, marks
from mlflow_timescale.operations.bringing.sources import OpenSource

Note = Callable[[str], None]
_queries = db.load("merging")
_FEW = 500  # ids in one condition: sqlite takes 32,766
REFUSALS = (psycopg.DataError, psycopg.IntegrityError, UnicodeEncodeError)
# Rows that never change, and the column of their id in the source.
LINKS = {
    "datasets": "dataset_uuid",
    "inputs": "input_uuid",
    "entity_associations": "association_id",
}
_WITH_RUNS = {
    "runs",
    "params",
    "tags",
    "metrics",
    "latest_metrics",
    "experiments",
    "experiment_tags",
}
_REGISTRY = {
    "registered_models",
    "registered_model_tags",
    "registered_model_aliases",
    "model_versions",
    "model_version_tags",
}
# Not carried: settings of a server, its jobs, and values that it computes.
NOT_CARRIED = {
    "webhooks",
    "webhook_events",
    "secrets",
    "endpoints",
    "endpoint_bindings",
    "endpoint_model_mappings",
    "endpoint_tags",
    "model_definitions",
    "guardrails",
    "guardrail_configs",
    "budget_policies",
    "jobs",
    "job_locks",
    "scheduler_leases",
    "mcp_servers",
    "mcp_access_endpoints",
    "mcp_server_aliases",
    "mcp_server_tags",
    "mcp_server_versions",
    "mcp_server_version_tags",
    "online_scoring_configs",
}
# Sums that the server computes from traces; workspaces, which are created with experiments.
_COMPUTED = {
    "sql_assessment_daily_rollups",
    "sql_span_cost_daily_rollups",
    "sql_trace_metric_daily_rollups",
    "sql_trace_rollup_rebuild_queue",
    "workspaces",
}
_KNOWN = {*_WITH_RUNS, *_REGISTRY, *_COMPUTED, *LINKS, "input_tags"} | {
    part.name for kind in KINDS for part in kind.parts
}
_RUN_COLUMNS = ("run_id", "source_run_id", "run_uuid")


def add(
    source: OpenSource,
    conn: Connection,
    experiments: Experiments,
    left_out: Set[str],
    changes: bool,
    note: Note,
) -> Additions:
    """Add missing entities, and, with `changes`, later changes of the source.

    Entities of runs in `left_out` are left out. A transaction has a few hundred entities; the next
    call continues an interrupted one.
    """
    rows = _OtherRows(source, conn, experiments, left_out, changes, note)
    with conn.transaction():
        rows.add_links()
    for kind in KINDS:
        rows.add_kind(kind)
    with conn.transaction():
        rows.add_others()
    return rows.result


def remember_all(source: OpenSource, conn: Connection, experiments: Experiments) -> None:
    """Remember all entities of a source after `import` copied whole tables."""
    links = _OtherRows(source, conn, experiments, frozenset(), True, lambda line: None)
    for name in LINKS:
        links.remember_links(name, [*links.keys_of(name)])
    for kind in KINDS:
        writer = EntityRows(conn, kind, True, source.identity)
        remember_kind(writer, marks(source.rows, kind))
    remember_tags(source, conn, experiments)


def remember_kind(writer: EntityRows, marks_by_id: Mapping[str, str]) -> None:
    """Remember entities that are equal in source and target."""
    if marks_by_id:
        writer.remember(marks_by_id)
        for part in writer.kind.parts:
            writer.remember_rows(part, sql.Identifier(part.name))


def locations(source: OpenSource, left_out: Set[str]) -> dict[str, str | None]:
    """Locations of artifacts of logged models and traces, by id.

    Logged models of runs in `left_out` are left out.
    """
    tags = Base.metadata.tables["trace_tags"].c
    query = select(tags.request_id, tags.value).where(tags.key == MLFLOW_ARTIFACT_LOCATION)
    traces = {
        trace_id: absolute(location, source.home)
        for trace_id, location in source.rows.execute(query)
    }
    return traces | _model_locations(source, left_out)


def _model_locations(source: OpenSource, left_out: Set[str]) -> dict[str, str | None]:
    models = Base.metadata.tables["logged_models"].c
    query = select(models.model_id, models.artifact_location, models.source_run_id)
    return {
        model_id: absolute(location, source.home)
        for model_id, location, run_id in source.rows.execute(query)
        if run_id not in left_out
    }


def _count(source: OpenSource, table: Table) -> int:
    return int(source.rows.execute(select(func.count()).select_from(table)).scalar_one())


def _table(name: str) -> Table:
    return cast("Table", Base.metadata.tables[name])


@dataclass
class _OtherRows:
    source: OpenSource
    conn: Connection
    experiments: Experiments
    left_out: Set[str]
    changes: bool
    note: Note
    result: Additions = field(default_factory=Additions)
    dropped: set[str] = field(default_factory=set)

    @cached_property
    def datasets(self) -> dict[str, str]:
        """The target's ids of datasets that have another id in the source."""
        here = {row[:3]: row[3] for row in self.conn.execute(_queries.datasets_here)}
        table = Base.metadata.tables["datasets"].c
        query = select(table.dataset_uuid, table.experiment_id, table.name, table.digest)
        ids = {}
        for uuid, experiment, name, digest in self.source.rows.execute(query):
            key = (self.experiments.id_here(experiment), name, digest)
            if key in here and here[key] != uuid:
                ids[uuid] = here[key]
        return ids

    def add_links(self) -> None:
        """Add datasets, inputs and associations, which never change."""
        for name, column in LINKS.items():
            earlier = self._earlier(name)
            new = {key: owner for key, owner in self.keys_of(name).items() if key not in earlier}
            ids = [*new.values()]
            for first in range(0, len(ids), _FEW):
                few = ids[first : first + _FEW]
                self._add(_table(name), _table(name).c[column].in_(few))
                if name == "inputs":
                    tags = _table("input_tags")
                    self._add(tags, tags.c.input_uuid.in_(few))
            self.remember_links(name, [*new])

    def keys_of(self, name: str) -> dict[str, str]:
        """The source's ids of links by their keys in the target; the ids may change each time."""
        table, id_column = _table(name), LINKS[name]
        columns = [*(key.name for key in table.primary_key), id_column]
        convert = self._fitted(name)
        keys = {}
        for row in self.source.rows.execute(select(*(table.c[name] for name in columns))):
            values = dict(zip(columns, row, strict=True))
            number = values[id_column]
            if (fitted := convert(values)) is not None:
                keys["/".join(str(fitted[name]) for name in columns[:-1])] = number
        return keys

    def remember_links(self, name: str, keys: Sequence[str]) -> None:
        values = {"kind": name, "ids": keys, "marks": [""] * len(keys)}
        self.conn.execute(_queries.remember_entities, values)

    def _earlier(self, kind: str) -> dict[str, str]:
        return pairs(self.conn, _queries.remembered_entities, {"kind": kind})

    def add_others(self) -> None:
        """Add rows of tables that belong to no kind, and note the tables that are not carried."""
        for table in Base.metadata.sorted_tables:
            if table.name in _KNOWN or not (count := _count(self.source, table)):
                continue
            if table.name in NOT_CARRIED:
                self.note(f"{table.name}: {count} rows are not carried into a database in use")
            else:
                self._add(table)

    def _add(self, table: Table, *conditions: Any) -> None:
        """Add the rows of a table that the target does not have."""
        rows = copying.read_rows(self.source.rows, table, *conditions)
        copying.stage(self.conn, table, copying.converted(table, rows, self._fitted(table.name)))
        stage = copying.stage_of(table)
        columns = [sql.Identifier(column.name) for column in copying.columns_of(table)]
        query = _queries.add_rows.format(
            table=sql.Identifier(table.name),
            columns=sql.SQL(", ").join(columns),
            stage=stage,
            parents=parents(table),
        )
        self.result.add(table.name, self.conn.execute(query).rowcount)
        orphans = scalar(self.conn, _queries.orphans.format(stage=stage, parents=parents(table)))
        # Not noted: tags of an input that the target has with another id.
        if orphans and table.name != "input_tags":
            self._note_orphans(table.name, orphans)

    def _note_orphans(self, table: str, rows: int) -> None:
        self.note(f"{table}: {rows} rows left out: what they belong to is not here")

    def add_kind(self, kind: Kind) -> None:
        """Add missing entities of a kind, and compare those that changed."""
        writer = EntityRows(self.conn, kind, self.changes, self.source.identity)
        held, earlier = marks(self.source.rows, kind), self._earlier(writer.memory)
        changed = self._changed(kind, held, earlier)
        orphans: Counter[str] = Counter()
        for first in range(0, len(changed), _FEW):
            batch = {owner: held[owner] for owner in changed[first : first + _FEW]}
            orphans.update(self._add_few(writer, batch).orphans)
        for table, rows in orphans.items():
            self._note_orphans(table, rows)

    def _changed(
        self, kind: Kind, held: Mapping[str, str], earlier: Mapping[str, str]
    ) -> list[str]:
        """The entities that are new or changed in the source.

        A sync leaves out those that were deleted in the target; an import brings them again.
        """
        remembered = [owner for owner in held if owner in earlier]
        query = _queries.entities_here.format(
            table=sql.Identifier(kind.root.name), owner=sql.Identifier(kind.root.owner)
        )
        gone = {*remembered} - {*scalars(self.conn, query, {"ids": remembered})}
        news = [owner for owner in held if held[owner] != earlier.get(owner) or owner in gone]
        return [owner for owner in news if owner not in gone] if self.changes else news

    def _add_few(self, writer: EntityRows, few: Mapping[str, str]) -> Additions:
        """Bring some entities in one transaction; if the database refuses it, bring each half."""
        try:
            with self.conn.transaction():
                self.dropped = set()
                rows = {part.name: [*self._rows(part, [*few])] for part in writer.kind.parts}
                whole = {
                    owner: "" if owner in self.dropped else mark for owner, mark in few.items()
                }
                additions = writer.bring(rows, whole)
        except REFUSALS as exc:
            if len(few) == 1:
                reason = one_line(exc)
                message = f"{writer.kind.name} {next(iter(few))!r}: refused: {reason}"
                self.note(message)
                self.result.not_brought.append(message)
                return Additions()
            ids, middle = [*few], len(few) // 2
            halves = [
                self._add_few(writer, {owner: few[owner] for owner in half})
                for half in (ids[:middle], ids[middle:])
            ]
            return Additions(orphans=dict(Counter(halves[0].orphans) + Counter(halves[1].orphans)))
        for table, number in additions.rows.items():
            self.result.add(table, number)
        self.result.different += additions.different
        return additions

    def _rows(self, part: Part, ids: Sequence[str]) -> Iterator[copying.Row]:
        """The converted rows of some entities."""
        condition = part.table.c[part.owner].in_(ids)
        rows = copying.read_rows(self.source.rows, part.table, condition)
        fitted = self._fitted(part.name)

        def noting_dropped(row: dict[str, Any]) -> dict[str, Any] | None:
            owner = row[part.owner]
            if (result := fitted(row)) is None:
                self.dropped.add(owner)
            return result

        yield from copying.converted(part.table, rows, noting_dropped)

    def _fitted(self, name: str) -> copying.Convert:
        """The conversion of rows of a table for the target; it drops rows that are left out."""

        def convert(row: dict[str, Any]) -> dict[str, Any] | None:
            if any(row.get(column) in self.left_out for column in _RUN_COLUMNS):
                return None
            if name in ("inputs", "entity_associations"):
                return self._association(row)
            if "experiment_id" in row:
                row["experiment_id"] = self.experiments.id_here(row["experiment_id"])
            if "dataset_uuid" in row and name != "datasets":
                row["dataset_uuid"] = self.datasets.get(row["dataset_uuid"], row["dataset_uuid"])
            if column := location_column(name, row):
                row[column] = absolute(row[column], self.source.home)
            return row

        return convert

    def _association(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """A link between two entities, each named by kind and id."""
        for end in ("source", "destination"):
            kind, number = row[f"{end}_type"], row[f"{end}_id"]
            if number in self.left_out:
                return None
            if kind.lower() == "experiment":
                row[f"{end}_id"] = self.experiments.id_here(number)
            elif kind == "DATASET":
                row[f"{end}_id"] = self.datasets.get(number, number)
        return row
