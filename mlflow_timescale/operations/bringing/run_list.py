"""The runs of any MLflow, with the present locations of their artifacts; for reading only.

Unlike `sources`, this module needs neither the schema of this MLflow nor a converter: it reads a
few columns that every version has, or metas, names and params of a folder. Listing a folder of
5,000 runs takes seconds.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from sqlalchemy import Connection as Rows
from sqlalchemy import column, create_engine, inspect, make_url, select, table
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError

from mlflow_timescale.common.errors import did_you_mean, first_of
from mlflow_timescale.common.text import one_line
from mlflow_timescale.db.masking import without_secrets
from mlflow_timescale.operations.bringing.older_schemas import WRITE_AHEAD, ImportFailed
from mlflow_timescale.operations.bringing.sources import (
    Note,
    home_of_file,
    is_sqlite_file,
    read_only_url,
)
from mlflow_timescale.operations.file_store import META, RESERVED, folders, read_meta

__all__ = ["ListedRun", "list_runs", "present_place"]

PARAMS = re.compile(r"(^|\.)(label|horizon|class)$")  # the params that are read
_NAME = "mlflow.runName"
_SQLITE = ("mlflow.db", "mlruns.db")  # names of databases in a folder
_DEEPEST = 4  # levels that are searched in a folder without MLflow's metas
_PROXIED = "mlflow-artifacts"
_COLUMNS = ("run_uuid", "name", "experiment_id", "start_time", "artifact_uri", "lifecycle_stage")


@dataclass(frozen=True)
class ListedRun:
    """A run of a source.

    Attributes
    ----------
    run_id, name, experiment
        As in MLflow; the name may be "".
    started
        Milliseconds since 1970; 0 if it is not known.
    place
        The present location of its artifacts: a folder, or a URI.
    params
        The params whose names match `PARAMS`.
    """

    run_id: str
    name: str
    experiment: str
    started: int
    place: Path | str
    params: Mapping[str, str] = field(default_factory=dict)

    @property
    def short_id(self) -> str:
        """The first 8 characters of an id; the whole name of a folder without MLflow's metas."""
        return self.run_id if self.run_id == self.name else self.run_id[:8]


def list_runs(
    source: str, note: Note, experiments: Sequence[str] = (), files: Iterable[str] = ()
) -> list[ListedRun]:
    """The active runs of a source, ordered by start time.

    Parameters
    ----------
    source
        A database URI, a SQLite file, a folder of MLflow's file store, a folder with either of
        them, or a folder whose folders hold the files.
    note
        Called with a line for everything that is left out.
    experiments
        Names of experiments; all by default.
    files
        Names of artifacts: a folder without MLflow's metas that has one of them is a run.

    Raises
    ------
    ImportFailed
        The source cannot be read, or has no such experiment.
    """
    url, folder = _located(source)
    if url is not None:
        home = home_of_file(url)
        runs = list(_of_database(url, home, experiments))
    elif folder is not None and _is_store(folder):
        runs = list(_of_folder(folder, note, experiments))
    else:
        if experiments:
            raise ImportFailed(
                f"{source} is no folder of MLflow and has no experiments: leave out --experiment"
            )
        runs = list(_bare(_path(source), set(files)))
    if missing := sorted(set(experiments) - {run.experiment for run in runs}):
        names = sorted({run.experiment for run in list_runs(source, lambda line: None)})
        advice = did_you_mean(missing[0], names) or f"; there are: {first_of(names, 10) or 'none'}"
        raise ImportFailed(f"no experiment {missing[0]!r} with runs{advice}")
    return sorted(runs, key=lambda run: (run.started, run.run_id))


def _located(source: str) -> tuple[str | None, Path | None]:
    """The URL of a database, or a folder that exists."""
    if source.startswith(("http:", "https:")):
        raise ImportFailed(
            f"{without_secrets(source)} is a tracking server: give the URI of its database, or a "
            "folder with copies of its artifacts"
        )
    if "://" in source.removeprefix("file://") or source.startswith("timescaledb+embedded:"):
        return source, None
    path = _path(source)
    if path.is_file():
        _require_sqlite(path)
        return f"sqlite:///{path.resolve()}", None
    if not source or not path.is_dir():
        raise ImportFailed(
            f"{without_secrets(source)!r} is neither a database URI, nor a folder, nor a "
            "SQLite file"
        )
    if _is_store(path):
        return None, path.resolve()
    for name in _SQLITE:
        if (path / name).is_file():
            return f"sqlite:///{(path / name).resolve()}", None
    inner = path / "mlruns"
    return None, (inner if inner.is_dir() else path).resolve()


def _path(source: str) -> Path:
    return Path(source.removeprefix("file://").removeprefix("file:"))


def _require_sqlite(path: Path) -> None:
    if not is_sqlite_file(str(path)):
        raise ImportFailed(
            f"{path} is no SQLite database: give the folder that holds it, and --table "
            f"{path.name} if it is a table with scores"
        )


def _is_store(folder: Path) -> bool:
    return any((child / META).is_file() for child in folders(folder)) or (folder / META).is_file()


def _of_database(url: str, home: Path | None, experiments: Sequence[str]) -> Iterator[ListedRun]:
    with _reading(url) as rows:
        names = set(inspect(rows).get_table_names())
        if lacking := {"experiments", "runs"} - names:
            raise ImportFailed(f"there are no MLflow tables in the source ({min(lacking)} lacks)")
        texts = _texts(rows, names)
        for run in rows.execute(_statement(experiments)):
            of_run = texts.get(run.run_uuid, {})
            yield ListedRun(
                run.run_uuid,
                run.run_name or of_run.pop(_NAME, ""),
                run.experiment_name,
                int(run.start_time or 0),
                present_place(run.artifact_uri or "", home, run.run_uuid),
                {key: value for key, value in of_run.items() if PARAMS.search(key)},
            )


def _statement(experiments: Sequence[str]) -> Any:
    runs = table("runs", *map(column, _COLUMNS))
    parents = table("experiments", *map(column, ("experiment_id", "name", "lifecycle_stage")))
    statement = (
        select(
            runs.c.run_uuid,
            runs.c.name.label("run_name"),
            parents.c.name.label("experiment_name"),
            runs.c.start_time,
            runs.c.artifact_uri,
        )
        .join_from(runs, parents, runs.c.experiment_id == parents.c.experiment_id)
        .where(runs.c.lifecycle_stage == "active", parents.c.lifecycle_stage == "active")
    )
    return statement.where(parents.c.name.in_(experiments)) if experiments else statement


def _texts(rows: Rows, tables: set[str]) -> dict[str, dict[str, str]]:
    """The names of runs in tags and the matching params, by run."""
    texts: dict[str, dict[str, str]] = {}
    for name in {"tags", "params"} & tables:
        pairs = table(name, column("run_uuid"), column("key"), column("value")).c
        condition = (
            pairs.key == _NAME
            if name == "tags"
            else pairs.key.like("%label") | pairs.key.like("%horizon") | pairs.key.like("%class")
        )
        query = select(pairs.run_uuid, pairs.key, pairs.value).where(condition)
        for run_id, label, value in rows.execute(query):
            texts.setdefault(run_id, {})[label] = value
    return texts


@contextmanager
def _reading(url: str) -> Iterator[Rows]:
    """A connection in a transaction that can only read."""
    try:
        with ExitStack() as until_done:
            scratch = Path(until_done.enter_context(TemporaryDirectory()))
            engine = create_engine(_untouched(url, scratch))
            until_done.callback(engine.dispose)
            rows = until_done.enter_context(engine.connect())
            if engine.dialect.name == "postgresql":
                options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
                rows = rows.execution_options(**options)
            yield rows
    except NoSuchModuleError as exc:
        scheme = url.partition(":")[0]
        raise ImportFailed(
            f"the source cannot be read: {scheme} is no database that is known here"
        ) from exc
    except (ArgumentError, DatabaseError) as exc:
        reason = str(getattr(exc, "orig", exc)).strip().splitlines()[0]
        raise ImportFailed(f"the source cannot be read: {without_secrets(reason)}") from exc


def _untouched(url: str, scratch: Path) -> str:
    """The URL that reads a database without creating files beside it.

    In write-ahead mode even a reader creates files beside a SQLite database. A database with an
    empty log is opened as immutable; another one is copied together with its log.
    """
    readable = read_only_url(url)
    path = Path(make_url(url).database or "") if url.startswith("sqlite") else Path()
    if readable == url or not path.is_file():
        return readable
    with path.open("rb") as file:
        header = file.read(20)
    if header[18:20] != WRITE_AHEAD:
        return readable
    log = path.with_name(f"{path.name}-wal")
    if not (log.is_file() and log.stat().st_size):
        return readable if "immutable=1" in readable else f"{readable}&immutable=1"
    for part in (path, log):
        shutil.copyfile(part, scratch / part.name)
    return f"sqlite:///{scratch / path.name}"


def _of_folder(folder: Path, note: Note, experiments: Sequence[str]) -> Iterator[ListedRun]:
    is_experiment = (folder / META).is_file()
    for path in [folder] if is_experiment else folders(folder):
        if path.name == ".trash" or (meta := _meta(path, note, "experiment")) is None:
            continue
        name = str(meta.get("name") or f"experiment_{path.name}")
        if meta.get("lifecycle_stage", "active") != "active" or (
            experiments and name not in experiments
        ):
            continue
        for run in folders(path):
            if run.name not in RESERVED and (meta := _meta(run, note, "run")) is not None:
                yield from _run_of_folder(run, meta, name)


def _run_of_folder(path: Path, meta: Mapping[str, Any], experiment: str) -> Iterator[ListedRun]:
    if meta.get("lifecycle_stage", "active") != "active":
        return
    run_id = str(meta.get("run_id") or meta.get("run_uuid") or path.name)
    name = meta.get("run_name") or _text(path / "tags" / _NAME) or meta.get("name") or ""
    inside = path / "artifacts"
    location = str(meta.get("artifact_uri") or "")
    place = inside if inside.is_dir() else present_place(location, path.parents[1], run_id)
    started = meta.get("start_time")
    yield ListedRun(
        run_id,
        str(name),
        experiment,
        started if isinstance(started, int) else 0,
        place,
        {
            file.name: _text(file)
            for file in sorted((path / "params").glob("*"))
            if PARAMS.search(file.name)
        },
    )


def _meta(path: Path, note: Note, kind: str) -> dict[str, Any] | None:
    try:
        meta = read_meta(path / META, path)
    except (OSError, ValueError, yaml.YAMLError) as exc:
        note(f"{path}: left out: the {kind} has no readable {META}: {one_line(exc)}")
        return None
    return meta if isinstance(meta, dict) else None


def _text(path: Path) -> str:
    """The text of a small regular file; "" if there is none."""
    if not path.is_file() or path.stat().st_size > 1 << 16:
        return ""
    return path.read_text(encoding="utf-8", errors="replace").strip()


def _bare(folder: Path, files: set[str]) -> Iterator[ListedRun]:
    """The folders without MLflow's metas that hold one of the files."""
    root = folder.resolve()
    for path, below, names in os.walk(root):
        place = Path(path)
        below.sort()
        if len(place.relative_to(root).parts) >= _DEEPEST:
            below.clear()
        if matching := sorted(files & set(names)):
            parts = [p for p in place.relative_to(root).parts if p != "artifacts"]
            started = int((place / matching[0]).stat().st_mtime * 1000)
            label = "/".join(parts) or root.name
            yield ListedRun(label, label, root.name, started, place)


def present_place(location: str, home: Path | None, run_id: str) -> Path | str:
    """The location of the artifacts of a run, or the same folder below the source if it has moved.

    Parameters
    ----------
    location
        The `artifact_uri` of the run.
    home
        The folder of the source; None for a server.
    run_id
        A folder below the source must have it in its path.

    Examples
    --------
    >>> present_place("s3://bucket/1/ab/artifacts", None, "ab")
    's3://bucket/1/ab/artifacts'
    """
    parts = urlsplit(location)
    if parts.scheme not in ("", "file", _PROXIED):
        return location
    path = unquote(parts.path) if parts.scheme else location
    folder = Path(path)
    if parts.scheme != _PROXIED and folder.is_absolute() and folder.is_dir():
        return folder
    for base in (home, home.parent) if home is not None else ():
        for root in (base, base / "mlruns", base / "mlartifacts"):
            if (moved := _below(root, path, run_id)) is not None:
                return moved
    return location if parts.scheme == _PROXIED else folder


def _below(root: Path, path: str, run_id: str) -> Path | None:
    """The longest end of a path that exists below a folder."""
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", ".", "..")]
    for start in range(len(parts)):
        end = parts[start:]
        if run_id not in end:
            return None
        if (folder := root.joinpath(*end)).is_dir():
            return folder
    return None
