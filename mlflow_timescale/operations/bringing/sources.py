"""Sources: a database of MLflow, or a folder of its file store, opened for reading only.

A file store is converted into a database in a scratch directory, runs by this package, everything
else by MLflow's converter, so that all other modules read rows.
"""

from __future__ import annotations

import errno
import hashlib
import io
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import mlflow.store.db.utils as mlflow_db
from mlflow.store.db.base_sql_model import Base
from psycopg import sql
from sqlalchemy import Connection as Rows
from sqlalchemy import make_url, select
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError

from mlflow_timescale import db
from mlflow_timescale.common import logs
from mlflow_timescale.db import Connection
from mlflow_timescale.db.masking import without_secrets
from mlflow_timescale.operations.bringing.older_schemas import (
    ImportFailed,
    is_older,
    read_only_file,
    require_this_schema,
    upgrade,
)
from mlflow_timescale.operations.bringing.run_files import write_runs
from mlflow_timescale.operations.file_store import FileStoreError, TakenRun, build_view

Note = Callable[[str], None]
_queries = db.load("importing")
_sqlite = db.load("sqlite")


@dataclass(frozen=True)
class OpenSource:
    """A source whose rows can be read.

    Attributes
    ----------
    rows
        A connection that sees one snapshot of the source.
    home
        The directory that relative locations of artifacts refer to; None for a server.
    marks
        For a file store: a hash of the files of each run.
    unread
        For a file store: runs without rows because their files have not changed, with the folder of
        their artifacts if it exists.
    unreadable
        For a file store: runs without rows because a file cannot be read, with the reason.
    """

    rows: Rows
    home: Path | None = None
    marks: Mapping[str, str] = field(default_factory=dict)
    unread: Mapping[str, str | None] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def identity(self) -> str:
        """A hash of the first experiment, which identifies the source also after it was moved."""
        table = Base.metadata.tables["experiments"].c
        columns = (table.creation_time, table.experiment_id, table.name)
        first = self.rows.execute(select(*columns).order_by(*columns).limit(1)).first()
        return hashlib.sha256(repr(first and tuple(first)).encode()).hexdigest()[:16]


@contextmanager
def opened(
    source: str,
    on_note: Note,
    *,
    known_marks: Mapping[str, str] | None = None,
    without_orphans: bool = True,
) -> Iterator[OpenSource]:
    """Open a source. Raises ImportFailed if it cannot be read or has another MLflow version.

    Parameters
    ----------
    source
        A database URI of MLflow's, a sqlite file, or the directory of a file store.
    on_note
        Called with a line for everything that is left out or changed.
    known_marks
        The marks of earlier runs; a run with the same mark is not read.
    without_orphans
        Leave out rows of sqlite that refer to rows that do not exist.
    """
    if is_sqlite_file(source):
        source = f"sqlite:///{Path(source).absolute()}"
    with ExitStack() as until_done:
        scratch = Path(until_done.enter_context(tempfile.TemporaryDirectory()))
        marks: dict[str, str] = {}
        unread: dict[str, Path] = {}
        unreadable: dict[str, str] = {}
        with _full_disk_named():
            if "://" in source.removeprefix("file://"):
                home, copy = home_of_file(source), _copy(source, scratch)
                if copy:
                    _upgrade_older(copy, source, on_note)
            else:
                home, copy = _folder(source), scratch / "mlflow.db"
                marks = _convert(home, copy, on_note, known_marks or {}, unread, unreadable)
            if copy and without_orphans:
                _remove_orphans(copy, on_note)
        url = f"sqlite:///{copy}" if copy else source
        places = {run_id: _artifacts_of(folder) for run_id, folder in unread.items()}
        yield OpenSource(until_done.enter_context(_reading(url)), home, marks, places, unreadable)


@contextmanager
def _full_disk_named() -> Iterator[None]:
    """Raise ImportFailed that names the temporary directory where it is full."""
    try:
        yield
    except (OSError, sqlite3.OperationalError, ImportFailed) as exc:
        if getattr(exc, "errno", None) != errno.ENOSPC and "disk is full" not in str(exc):
            raise
        raise ImportFailed(
            f"the temporary directory {tempfile.gettempdir()} is full: name one with more room by "
            f"TMPDIR; the source is copied there"
        ) from exc


def is_sqlite_file(source: str) -> bool:
    """Whether a source is the path of a sqlite file, by the first bytes of the file."""
    path = Path(source)
    if "://" in source or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _artifacts_of(run: Path) -> str | None:
    folder = run / "artifacts"
    return folder.as_uri() if folder.is_dir() else None


def home_of_file(url: str) -> Path | None:
    """The directory of a sqlite file, None for a server. Raises ImportFailed without the file."""
    if not url.startswith("sqlite"):
        return None
    name = make_url(url).database
    if name and not Path(name).is_file():  # opening it would create it
        raise ImportFailed(f"there is no file {name}")
    return Path(name).resolve().parent if name else None


def _folder(source: str) -> Path:
    directory = Path(source.removeprefix("file://").removeprefix("file:"))
    if not directory.is_dir():
        raise ImportFailed(
            f"{without_secrets(source)} is neither a database URI nor the directory of a file "
            f"store, nor a sqlite file"
        )
    runs = directory / "mlruns"
    return (runs if runs.is_dir() else directory).resolve()


def _copy(url: str, scratch: Path) -> Path | None:
    """A copy of a sqlite file; None for a server, and for a file that cannot be read.

    A reader of the file would keep its writers waiting, and MLflow's give up after 20 seconds.
    """
    if not url.startswith("sqlite") or not (name := make_url(url).database):
        return None
    copy = scratch / "mlflow.db"
    try:
        with (
            closing(sqlite3.connect(read_only_file(Path(name)), uri=True, timeout=60)) as original,
            closing(sqlite3.connect(copy)) as target,
        ):
            original.backup(target)
    except sqlite3.DatabaseError as exc:
        if "disk is full" in str(exc):
            raise
        return None  # the reader of the file raises the error
    return copy


def _upgrade_older(copy: Path, url: str, on_note: Note) -> None:
    """Bring the copy to the schema of this MLflow if an older one wrote the file."""
    engine = mlflow_db.create_sqlalchemy_engine(f"sqlite:///{copy}")
    try:
        if not is_older(engine):
            return
    finally:
        engine.dispose()
    name = make_url(url).database
    upgrade(copy, f"a copy of {name}")
    on_note(f"{name} is of an older MLflow: a copy of it was upgraded, and is read in its place")


@contextmanager
def _reading(url: str) -> Iterator[Rows]:
    """A connection to the source that sees one snapshot of it."""
    with ExitStack() as until_done:
        try:
            engine = mlflow_db.create_sqlalchemy_engine(read_only_url(url))
            until_done.callback(engine.dispose)
            require_this_schema(engine, url)
            rows = until_done.enter_context(engine.connect())
        except NoSuchModuleError as exc:
            raise ImportFailed(
                f"the source cannot be read: {without_secrets(url)} is no database: name "
                f"the database of a tracking server, or a local copy of a bucket"
            ) from exc
        except ModuleNotFoundError as exc:
            raise ImportFailed(
                f"the source cannot be read: its driver {exc.name} is not installed: "
                f"`pip install` it, or name it in the URI as dialect+driver://"
            ) from exc
        except (ArgumentError, DatabaseError) as exc:
            reason = str(getattr(exc, "orig", exc)).strip().splitlines()[0]
            raise ImportFailed(f"the source cannot be read: {without_secrets(reason)}") from exc
        if engine.dialect.name == "postgresql":
            rows.exec_driver_sql(_queries.limit_source.as_string())
            rows.commit()
            rows = rows.execution_options(isolation_level="REPEATABLE READ")
        elif engine.dialect.name == "sqlite":
            # The driver begins a transaction at a write only: every SELECT would see another state.
            rows.exec_driver_sql(_sqlite.begin.as_string())
        yield rows


def read_only_url(url: str) -> str:
    """The URL under which sqlite opens a file for reading only.

    >>> read_only_url("sqlite:////data/mlflow.db")
    'sqlite:///file:/data/mlflow.db?mode=ro&uri=true'
    >>> read_only_url("postgresql://host/mlflow")
    'postgresql://host/mlflow'
    """
    if not url.startswith("sqlite"):
        return url
    name = make_url(url).database
    if not name or name.startswith(("file:", ":memory:")):
        return url
    return f"sqlite:///{read_only_file(Path(name))}&uri=true"


def require_another_database(source: Rows, conn: Connection) -> None:
    """Raise ImportFailed if the source is the target itself."""
    if source.dialect.name != "postgresql":
        return
    statement = _queries.identity.as_string(conn)
    if tuple(source.exec_driver_sql(statement).one()) == conn.execute(statement).fetchone():
        raise ImportFailed(
            "the source is the target itself: name another database, or `adopt` this one in place"
        )


def _convert(
    directory: Path,
    copy: Path,
    on_note: Note,
    known: Mapping[str, str],
    unread: dict[str, Path],
    unreadable: dict[str, str],
) -> dict[str, str]:
    """Convert a file store into a database; return the marks of its runs."""
    from mlflow.store.fs2db import migrate

    view = copy.parent / "mlruns"
    view.mkdir()
    runs: list[TakenRun] = []
    try:
        marks = build_view(directory, view, on_note, known, runs, unread)
    except FileStoreError as exc:
        raise ImportFailed(str(exc)) from exc
    with (
        redirect_stdout(io.StringIO()),
        logs.quiet("mlflow.store.db.utils"),
        logs.noted("mlflow.store.fs2db._tracking", on_note),
        logs.noted("mlflow.store.fs2db._utils", lambda line: None),  # the view has named these
    ):  # its summary, and its log lines on new tables
        try:
            migrate(copy.parent, f"sqlite:///{copy}", progress=False)
        except Exception as exc:
            reason = str(exc).strip().splitlines()[0]
            raise ImportFailed(f"MLflow's converter cannot read {directory}: {reason}") from exc
    unreadable |= write_runs(copy, runs, on_note)
    return {run_id: mark for run_id, mark in marks.items() if run_id not in unreadable}


def _remove_orphans(copy: Path, on_note: Note) -> None:
    """Remove rows that refer to rows that do not exist.

    Sqlite keeps such rows, for example of runs that could not be read; PostgreSQL refuses them.
    """
    with closing(sqlite3.connect(copy)) as target:
        try:
            orphans = target.execute(_sqlite.orphans.as_string()).fetchall()
        except sqlite3.DatabaseError:
            return  # the reader of the file raises the error
        while orphans:
            for table, rowid, parent, _ in orphans:
                delete = _sqlite.delete_row.format(table=sql.Identifier(table)).as_string()
                if target.execute(delete, [rowid]).rowcount:
                    on_note(f"{table}: a row left out: it refers to a row of {parent} that is gone")
            target.commit()
            orphans = target.execute(_sqlite.orphans.as_string()).fetchall()
