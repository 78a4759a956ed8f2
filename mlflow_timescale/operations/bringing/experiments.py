"""Experiments of a source and of the target, matched by workspace and name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow.store.db.base_sql_model import Base
from mlflow.utils.mlflow_tags import MLFLOW_ARTIFACT_LOCATION
from psycopg import sql
from sqlalchemy import select

from mlflow_timescale import db
from mlflow_timescale.db import Connection
from mlflow_timescale.db.rows import scalar
from mlflow_timescale.operations.bringing.entity_rows import EntityRows
from mlflow_timescale.operations.bringing.kinds import EXPERIMENT
from mlflow_timescale.operations.bringing.older_schemas import ImportFailed
from mlflow_timescale.operations.bringing.sources import OpenSource
from mlflow_timescale.operations.file_store import OLD_ID

Note = Callable[[str], None]
_queries = db.load("merging")
_LONGEST_NAME = Base.metadata.tables["experiments"].c.name.type.length
DEFAULT_WORKSPACE = "default"


@dataclass
class Experiments:
    """The target's ids of the source's experiments, which of them are new, and results for tags."""

    ids: dict[int, int] = field(default_factory=dict)
    new: list[int] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    new_tags: int = 0

    def id_here(self, value: Any) -> Any:
        """The target's id of an experiment of the source, as a number or as a text."""
        if isinstance(value, str):
            return str(self.ids.get(int(value), value)) if value.isdigit() else value
        return self.ids.get(value, value)


def match_experiments(
    source: OpenSource, conn: Connection, prefix: str, changes: bool, note: Note
) -> Experiments:
    """Find or create an experiment for each experiment of the source, with its tags.

    With `changes`, a tag that changed only in the source gets the new value.
    """
    here = {row[:2]: row[2:4] for row in conn.execute(_queries.experiments_here).fetchall()}
    matched = Experiments()
    tags = tags_of(source)
    names = {}
    for row in source.rows.execute(select(Base.metadata.tables["experiments"])).mappings():
        values = {**row, "name": prefix + row["name"]}
        workspace = values["workspace"] or DEFAULT_WORKSPACE
        old, name = values["experiment_id"], values["name"]
        if (workspace, name) in here:
            new, stage = here[workspace, name]
            if stage == "deleted" != values["lifecycle_stage"]:
                note(f"experiment {name!r} is deleted here, and stays so; its runs are added to it")
        else:
            if len(name) > _LONGEST_NAME:
                raise ImportFailed(
                    f"the experiment {name!r} would have {len(name)} characters in its name, "
                    f"and MLflow allows {_LONGEST_NAME}: take a shorter --prefix"
                )
            is_default = old == 0 and name == "Default"
            new = _add(conn, values, workspace, source.home, 0 if is_default else None)
            matched.new.append(new)
            if new != old:
                tags.setdefault(old, {}).setdefault(OLD_ID, str(old))
        matched.ids[old] = new
        names[new] = name
    writer = EntityRows(conn, EXPERIMENT, changes, source.identity)
    _add_tags(writer, matched, tags, names)
    return matched


def tags_of(source: OpenSource) -> dict[int, dict[str, str]]:
    tags: dict[int, dict[str, str]] = {}
    for row in source.rows.execute(select(Base.metadata.tables["experiment_tags"])).mappings():
        tags.setdefault(row["experiment_id"], {})[row["key"]] = row["value"]
    return tags


def _add(
    conn: Connection,
    values: dict[str, Any],
    workspace: str,
    home: Path | None,
    number: int | None,
) -> int:
    if workspace != DEFAULT_WORKSPACE:
        conn.execute(_queries.add_workspace, {"name": workspace})
    parameters = {
        "id": number,
        "name": values["name"],
        "workspace": workspace,
        "artifact_location": absolute(values["artifact_location"], home),
        "lifecycle_stage": values["lifecycle_stage"],
        "creation_time": values["creation_time"],
        "last_update_time": values["last_update_time"],
    }
    return int(scalar(conn, _queries.add_experiment, parameters))


def _add_tags(
    writer: EntityRows,
    matched: Experiments,
    tags: Mapping[int, Mapping[str, str]],
    names: Mapping[int, str],
) -> None:
    """Add missing tags, and compare the others."""
    rows = [
        (key, value, matched.ids[old])
        for old, tags_of_one in tags.items()
        for key, value in tags_of_one.items()
        if key != OLD_ID or matched.ids[old] in matched.new
    ]
    names_by_id = {str(new): name for new, name in names.items()}
    added = writer.bring({"experiment_tags": rows}, dict.fromkeys(names_by_id, ""))
    matched.new_tags = added.rows["experiment_tags"]
    matched.different += [f"experiment {names_by_id[new]!r}: {tag}" for new, tag in added.differing]


def remember_tags(source: OpenSource, conn: Connection, experiments: Experiments) -> None:
    """Remember the tags of all experiments after `import` copied whole tables."""
    writer = EntityRows(conn, EXPERIMENT, True, source.identity)
    ids = (experiments.id_here(old) for old in tags_of(source))
    writer.remember(dict.fromkeys(map(str, ids), ""))
    writer.remember_rows(EXPERIMENT.root, sql.Identifier(EXPERIMENT.root.name))


def location_column(table: str, row: Mapping[str, Any]) -> str | None:
    """The column of a row that holds a location of artifacts; None if no column does.

    >>> location_column("runs", {"run_uuid": "ab", "artifact_uri": "./mlruns/0/ab/artifacts"})
    'artifact_uri'
    """
    if table == "trace_tags":
        return "value" if row["key"] == MLFLOW_ARTIFACT_LOCATION else None
    return next((name for name in ("artifact_uri", "artifact_location") if name in row), None)


def absolute(location: str | None, home: Path | None) -> str | None:
    """A location of artifacts that does not depend on the working directory.

    A relative path begins at the directory of the source. A local path that does not exist, because
    the source was copied from another machine, is searched beside the source.

    >>> absolute("s3://bucket/1", Path("/data"))
    's3://bucket/1'
    >>> absolute("./mlruns/1", Path("/data"))
    'file:///data/mlruns/1'
    """
    if not location or home is None:
        return location
    parts = urlsplit(location)
    if parts.scheme not in ("", "file"):
        return location
    path = Path(unquote(parts.path) if parts.scheme else location)
    if not path.is_absolute():
        return (home / path).as_uri()
    if not path.exists():
        # The folders of an experiment, a run and its artifacts, below any root.
        for length in range(min(5, len(path.parts) - 1), 1, -1):
            for root in (home, home / "mlruns", home / "mlartifacts"):
                moved = root.joinpath(*path.parts[-length:])
                if moved.is_dir():
                    return moved.as_uri()
    return location
