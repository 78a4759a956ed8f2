"""Kinds of entities other than runs: their tables, and marks that change with an entity."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import cast

from mlflow.store.db.base_sql_model import Base
from sqlalchemy import Connection as Rows
from sqlalchemy import Table, func, select

from mlflow_timescale.operations.bringing import copying

# Set when an entity arrives or its artifacts are copied: not compared or changed afterwards.
_KEPT = {"source", "storage_location", "artifact_location", "experiment_id", "lifecycle_stage"}
# Set by other changes on both sides: not compared.
_TIMES = {
    "last_updated_time",
    "last_updated_timestamp",
    "last_updated_timestamp_ms",
    "last_update_time",
    "last_update_time_ms",
    "last_updated_by",
}
_CHANGED, _ENDED = "last_updated_timestamp_ms", "end_time_unix_nano"


@dataclass(frozen=True)
class Part:
    """A table of a kind of entity.

    Attributes
    ----------
    name
        The name of the table.
    owner
        The column with the id of the entity.
    noun
        The name of a row in messages.
    counted
        Set for rows that are too many or too large to be read for the mark or remembered: the mark
        has their number and the greatest value of this column.
    newer
        A column whose value is greater in the newer of two rows.
    by_programs
        Only programs change the rows: a change in the source is not listed, and an import brings it
        too.
    """

    name: str
    owner: str
    noun: str
    counted: str | None = None
    newer: str | None = None
    by_programs: bool = False

    @property
    def table(self) -> Table:
        return cast("Table", Base.metadata.tables[self.name])

    @property
    def keys(self) -> list[str]:
        """The columns of the primary key."""
        return [column.name for column in self.table.primary_key]

    @property
    def compared(self) -> list[str]:
        """The columns in which two rows of the same key may differ."""
        names = [column.name for column in copying.columns_of(self.table)]
        return [name for name in names if name not in {*self.keys, *_KEPT, *_TIMES}]

    @property
    def replaced(self) -> list[str]:
        """The columns that a change in the source sets."""
        names = {column.name for column in copying.columns_of(self.table)}
        return self.compared + sorted(names & _TIMES)


@dataclass(frozen=True)
class Kind:
    """A kind of entity; the first of its tables has one row for each entity."""

    name: str
    parts: tuple[Part, ...]

    @property
    def root(self) -> Part:
        return self.parts[0]


KINDS = (
    Kind(
        "evaluation dataset",
        (
            Part("evaluation_datasets", "dataset_id", "it"),
            Part("evaluation_dataset_tags", "dataset_id", "tag"),
            Part("evaluation_dataset_records", "dataset_id", "record"),
        ),
    ),
    Kind(
        "logged model",
        (
            Part("logged_models", "model_id", "it", newer=_CHANGED, by_programs=True),
            Part("logged_model_params", "model_id", "param"),
            Part("logged_model_tags", "model_id", "tag"),
            Part("logged_model_metrics", "model_id", "metric", "metric_timestamp_ms"),
        ),
    ),
    Kind(
        "trace",
        (
            Part("trace_info", "request_id", "it", newer="execution_time_ms", by_programs=True),
            Part("trace_tags", "request_id", "tag"),
            Part("trace_request_metadata", "request_id", "metadata", by_programs=True),
            Part("trace_metrics", "request_id", "metric", by_programs=True),
            Part("assessments", "trace_id", "assessment"),
            Part("spans", "trace_id", "span", _ENDED, newer=_ENDED, by_programs=True),
            Part("span_metrics", "trace_id", "metric", "key", by_programs=True),
        ),
    ),
    Kind(
        "scorer",
        (
            Part("scorers", "scorer_id", "it"),
            Part("scorer_versions", "scorer_id", "version"),
        ),
    ),
    Kind("label schema", (Part("label_schemas", "schema_id", "it"),)),
    Kind(
        "review queue",
        (
            Part("review_queues", "queue_id", "it"),
            Part("review_queue_users", "queue_id", "user"),
            Part("review_queue_label_schemas", "queue_id", "label schema"),
            Part("review_queue_items", "queue_id", "item"),
        ),
    ),
    Kind("issue", (Part("issues", "issue_id", "it"),)),
)
# Callers pass its rows with the id of the experiment in the target.
EXPERIMENT = Kind("experiment", (Part("experiment_tags", "experiment_id", "tag"),))
# Its id consists of workspace and name.
REGISTERED_MODEL = Kind(
    "registered model",
    (
        Part("registered_models", "name", "it"),
        Part("registered_model_tags", "name", "tag"),
        Part("model_versions", "name", "version"),
        Part("model_version_tags", "name", "version tag"),
        Part("registered_model_aliases", "name", "alias"),
    ),
)


def marks(rows: Rows, kind: Kind) -> dict[str, str]:
    """A hash of the rows of each entity of a source, by id."""
    texts: dict[str, list[str]] = {}
    for part in kind.parts:
        read = _counts if part.counted else _hashes
        for owner, text in read(rows, part):
            texts.setdefault(owner, []).append(f"{part.name}={text}")
    root = kind.root
    ids = rows.execute(select(root.table.c[root.owner])).scalars()
    return {owner: hash_of("|".join(texts[owner])) for owner in ids}


def _counts(rows: Rows, part: Part) -> Iterator[tuple[str, str]]:
    owner, last = part.table.c[part.owner], part.table.c[str(part.counted)]
    query = select(owner, func.count(), func.count(last), func.max(last)).group_by(owner)
    for row in rows.execute(query):
        yield row[0], repr(row[1:])


def _hashes(rows: Rows, part: Part) -> Iterator[tuple[str, str]]:
    columns = [column.name for column in copying.columns_of(part.table)]
    place = columns.index(part.owner)
    order = [part.table.c[part.owner], *(part.table.c[key] for key in part.keys)]
    ordered = copying.read_rows(rows, part.table, order=order)
    for owner, group in groupby(ordered, key=itemgetter(place)):
        yield owner, hash_of("\n".join(map(repr, group)))


def hash_of(text: str) -> str:
    """A short hash of a text.

    >>> hash_of("momentum")
    '446be308664e1964b816217ba48334a7'
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
