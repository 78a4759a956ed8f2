"""Rows of entities that are brought again, compared with the target and with earlier rows.

A row that changed only in the source since it was brought gets the new value in a sync. A row that
changed on both sides, or never came from the source, is listed and does not change. A row that was
deleted in the target stays deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from psycopg import sql
from sqlalchemy import Table

from mlflow_timescale import db
from mlflow_timescale.db import Connection
from mlflow_timescale.db.rows import scalar, scalars
from mlflow_timescale.operations.bringing import copying
from mlflow_timescale.operations.bringing.kinds import Kind, Part

Column = Callable[[str], sql.Composable]
_queries = db.load("merging")


@dataclass
class Additions:
    """What came of some entities: rows by table, rows that differ, entities that are not whole.

    `different` has the rows that differ as messages, `differing` by the id of the entity.
    `not_brought` has the entities that conflict or that the database refused, as messages.
    """

    rows: dict[str, int] = field(default_factory=dict)
    different: list[str] = field(default_factory=list)
    differing: list[tuple[str, str]] = field(default_factory=list)
    not_brought: list[str] = field(default_factory=list)
    incomplete: set[str] = field(default_factory=set)
    orphans: dict[str, int] = field(default_factory=dict)

    def add(self, table: str, rows: int) -> None:
        self.rows[table] = self.rows.get(table, 0) + rows


@dataclass(frozen=True)
class EntityRows:
    """Writes rows of one kind of entity; a call is part of the caller's transaction.

    Attributes
    ----------
    conn, kind
        The target, and the kind of entity.
    changes
        Whether rows that changed in the source are replaced.
    source
        The `identity` of the source. Each source has its own memory: two sources with an experiment
        of the same name would otherwise undo each other's tags.
    """

    conn: Connection
    kind: Kind
    changes: bool
    source: str

    @property
    def memory(self) -> str:
        """The kind of this source's entries in `mlops.brought_entities`."""
        return f"{self.kind.name} of {self.source}"

    def bring(
        self, rows: Mapping[str, Iterable[copying.Row]], marks: Mapping[str, str]
    ) -> Additions:
        """Add and replace rows of entities, by table, and remember the marks.

        An entity that is incomplete afterwards, or differs, is remembered without a mark, so that
        the next call compares it again.
        """
        result = Additions()
        for part in self.kind.parts:
            copying.stage(self.conn, part.table, rows[part.name])
            if part.name == "trace_tags":
                self.conn.execute(_queries.keep_places)
            self._write(part, result)
        self.remember({**marks, **dict.fromkeys({*marks} & result.incomplete, "")})
        for part in self.kind.parts:
            self.remember_rows(part, copying.stage_of(part.table))
        return result

    def _write(self, part: Part, result: Additions) -> None:
        texts = _texts(part, copying.stage_of(part.table))
        values = {"kind": self.memory, "changes": self.changes}
        if part.replaced and (self.changes or part.by_programs):
            result.add(part.name, self._count(_queries.replace_rows, texts, values))
        if part.compared and not part.by_programs:
            query = _queries.different_rows.format(**texts)
            for owner, key in self.conn.execute(query, values).fetchall():
                result.incomplete.add(owner)
                result.differing.append((owner, _name(part, key)))
                result.different.append(f"{self.kind.name} {owner!r}: {_name(part, key)}")
        result.add(part.name, self._count(_queries.add_missing_rows, texts, values))
        if orphans := scalars(self.conn, _queries.rows_without_parents.format(**texts)):
            result.incomplete.update(orphans)
            result.orphans[part.name] = len(orphans)

    def _count(self, query: Any, texts: dict[str, sql.Composable], values: dict[str, Any]) -> int:
        return int(scalar(self.conn, query.format(**texts), values))

    def remember(self, marks: Mapping[str, str]) -> None:
        """Store the marks of entities."""
        values = {"kind": self.memory, "ids": [*marks], "marks": [*marks.values()]}
        self.conn.execute(_queries.remember_entities, values)

    def remember_rows(self, part: Part, given: sql.Identifier) -> None:
        """Store the hashes of rows that are equal in the target and in the given table."""
        if part.counted is None:
            query = _queries.remember_rows.format(**_texts(part, given))
            self.conn.execute(query, {"kind": self.memory})


def _name(part: Part, key: str) -> str:
    """The name of a row in messages, such as `tag 'k'`.

    >>> _name(Part("trace_tags", "request_id", "tag"), "trace_tags/k")
    "tag 'k'"
    """
    _, _, rest = key.partition("/")
    return f"{part.noun} {rest!r}" if rest else part.noun


def _texts(part: Part, given: sql.Identifier) -> dict[str, sql.Composable]:
    """The variable parts of the queries on a table."""
    ours_column, given_column = (partial(sql.Identifier, name) for name in ("ours", "given"))
    columns = [column.name for column in copying.columns_of(part.table)]
    return {
        "table": sql.Identifier(part.name),
        "stage": given,
        "owner": sql.Identifier(part.owner),
        "columns": _list(map(sql.Identifier, columns)),
        "given_columns": _list(map(given_column, columns)),
        "id": _id(part, given_column),
        "key": _key(part, given_column),
        "same": sql.SQL(" AND ").join(
            _queries.same.format(ours=ours_column(name), given=given_column(name))
            for name in part.keys
        ),
        "ours_hash": _queries.hash_of.format(columns=_list(map(ours_column, part.compared))),
        "given_hash": _queries.hash_of.format(columns=_list(map(given_column, part.compared))),
        "settings": _list(
            _queries.set_to.format(column=sql.Identifier(name), given=given_column(name))
            for name in part.replaced
        ),
        "is_newer": _queries.is_newer.format(
            ours=ours_column(part.newer), given=given_column(part.newer)
        )
        if part.newer
        else sql.SQL("false"),
        "parents": parents(part.table),
    }


def _list(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)


def _id(part: Part, column: Column) -> sql.Composable:
    """The id of the entity of a row as a text; a registered model has its workspace in it."""
    if "workspace" in part.keys:
        return sql.SQL(" || '/' || ").join([column("workspace"), column(part.owner)])
    text: sql.Composed = _queries.key_column.format(column=column(part.owner))
    return text


def _key(part: Part, column: Column) -> sql.Composable:
    names = [name for name in part.keys if name not in (part.owner, "workspace")]
    texts = [_queries.key_column.format(column=column(name)) for name in names]
    key: sql.Composed = _queries.key_of.format(parts=_list([sql.Literal(part.name), *texts]))
    return key


@cache
def parents(table: Table) -> sql.Composable:
    """The condition that the target has all rows that a row refers to."""
    conditions: Sequence[sql.Composable] = [
        _queries.parent.format(
            given=sql.Identifier("given", key.parent.name),
            table=sql.Identifier(key.column.table.name),
            column=sql.Identifier(key.column.name),
        )
        for constraint in table.foreign_key_constraints
        for key in constraint.elements
    ]
    return sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("true")
