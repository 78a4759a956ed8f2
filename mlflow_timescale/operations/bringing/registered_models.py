"""Registered models with versions, tags and aliases: new ones, and later changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL

from mlflow_timescale import db
from mlflow_timescale.common.text import one_line
from mlflow_timescale.db import Connection
from mlflow_timescale.db.rows import pairs, scalar
from mlflow_timescale.operations.bringing import copying
from mlflow_timescale.operations.bringing.entity_rows import Additions, EntityRows
from mlflow_timescale.operations.bringing.kinds import REGISTERED_MODEL, Part, hash_of
from mlflow_timescale.operations.bringing.other_rows import REFUSALS, remember_kind
from mlflow_timescale.operations.bringing.sources import OpenSource

Note = Callable[[str], None]
Rows = dict[str, list[dict[str, Any]]]
_queries = db.load("merging")


@dataclass(frozen=True)
class SourceModel:
    """A registered model of a source: workspace, name in the target, and rows by table."""

    workspace: str
    name: str
    rows: Rows

    @property
    def id(self) -> str:
        return f"{self.workspace}/{self.name}"

    @property
    def mark(self) -> str:
        """A hash of all rows."""
        return hash_of(repr(self.rows))

    @property
    def place(self) -> dict[str, str]:
        return {"workspace": self.workspace, "name": self.name}


def add(source: OpenSource, conn: Connection, prefix: str, changes: bool, note: Note) -> Additions:
    """Add missing models, versions, tags and aliases, and, with `changes`, later changes.

    A different version with the same number is a conflict: it is noted, and its model does not
    change. Rows that changed on both sides are listed, and do not change. Deletions in the target
    stay; deletions in the source are not brought.
    """
    writer = EntityRows(conn, REGISTERED_MODEL, changes, source.identity)
    models = _Models(writer, note)
    earlier = pairs(conn, _queries.remembered_entities, {"kind": writer.memory})
    for model in _models_of(source, prefix):
        is_here = scalar(conn, _queries.model_is_here, model.place)
        was_deleted = changes and model.id in earlier and not is_here
        if not was_deleted and not (is_here and earlier.get(model.id) == model.mark):
            models.add(model)
    return models.result


def remember_all(source: OpenSource, conn: Connection) -> None:
    """Remember all models of a source after `import` copied whole tables."""
    marks = {model.id: model.mark for model in _models_of(source, "")}
    remember_kind(EntityRows(conn, REGISTERED_MODEL, True, source.identity), marks)


def _models_of(source: OpenSource, prefix: str) -> list[SourceModel]:
    """The models of a source, ordered by name; each table is read once."""
    models: dict[tuple[str, str], Rows] = {}
    for part in REGISTERED_MODEL.parts:
        for place, rows in _rows_by_model(source, part, prefix):
            models.setdefault(place, {}).setdefault(part.name, []).extend(rows)
    return [
        SourceModel(
            workspace,
            prefix + name,
            {part.name: rows.get(part.name, []) for part in REGISTERED_MODEL.parts},
        )
        for (workspace, name), rows in sorted(models.items())
    ]


def _rows_by_model(
    source: OpenSource, part: Part, prefix: str
) -> Iterator[tuple[tuple[str, str], list[dict[str, Any]]]]:
    columns = [column.name for column in copying.columns_of(part.table)]
    order = [part.table.c[key] for key in ("workspace", "name", *part.keys)]
    rows = (
        dict(zip(columns, row, strict=True))
        for row in copying.read_rows(source.rows, part.table, order=order)
    )
    for place, group in groupby(rows, key=itemgetter("workspace", "name")):
        yield place, [{**row, "name": prefix + row["name"]} for row in group]


@dataclass
class _Models:
    writer: EntityRows
    note: Note
    result: Additions = field(default_factory=Additions)

    def add(self, model: SourceModel) -> None:
        """Add or compare one model in one transaction; a refusal is noted with its reason."""
        try:
            with self.writer.conn.transaction():
                additions = self._add(model)
        except REFUSALS as exc:
            reason = one_line(exc)
            self._leave(f"registered model {model.name!r}: refused: {reason}")
            return
        for table, number in additions.rows.items():
            self.result.add(table, number)
        self.result.different += additions.different

    def _leave(self, message: str) -> None:
        self.note(message)
        self.result.not_brought.append(message)

    def _add(self, model: SourceModel) -> Additions:
        conn = self.writer.conn
        here = {row[0]: row[1:] for row in conn.execute(_queries.models_here, model.place)}
        rows = without_deleted(model.rows, {number for number in here if here[number][2]}, {*here})
        if others := _others(rows, here):
            self._leave(
                f"registered model {model.name!r}: conflict: version {others} is another one here; "
                f"nothing of the model was changed (--prefix brings it under another name)"
            )
            return Additions()
        parts = {part.name: part for part in REGISTERED_MODEL.parts}
        staged = {name: _tuples(parts[name], dicts) for name, dicts in rows.items()}
        result = self.writer.bring(staged, {model.id: model.mark})
        conn.execute(_queries.raise_model_time)
        conn.execute(_queries.move_later_versions, model.place)
        return result


def without_deleted(rows: Rows, deleted_here: set[int], here: set[int]) -> Rows:
    """Rows without versions that were deleted on either side after they were brought.

    >>> rows = {"model_versions": [{"version": 1, "current_stage": "Deleted_Internal"}]}
    >>> without_deleted(rows, set(), {1}), without_deleted(rows, set(), set()) == rows
    ({'model_versions': []}, True)
    """
    deleted = deleted_here | {
        row["version"]
        for row in rows["model_versions"]
        if row["current_stage"] == STAGE_DELETED_INTERNAL and row["version"] in here
    }
    return {
        name: [row for row in of_table if row.get("version") not in deleted]
        for name, of_table in rows.items()
    }


def _others(rows: Rows, here: Mapping[int, Any]) -> str:
    """The numbers of versions that are different ones in the target."""
    numbers = [
        row["version"]
        for row in rows["model_versions"]
        if row["version"] in here
        and here[row["version"]][:2] != (row["creation_time"], row["run_id"])
    ]
    return ", ".join(map(str, sorted(numbers)))


def _tuples(part: Part, rows: list[dict[str, Any]]) -> list[copying.Row]:
    columns = [column.name for column in copying.columns_of(part.table)]
    return [tuple(row[name] for name in columns) for row in rows]
