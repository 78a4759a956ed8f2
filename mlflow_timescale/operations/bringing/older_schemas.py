"""Sources of an older MLflow: a copy of the sqlite file is migrated to the schema of this MLflow.

MLflow's migrations change a database in place, and a source must not change.
"""

from __future__ import annotations

import sqlite3
from functools import cache
from pathlib import Path
from typing import Any

import mlflow.store.db.utils as mlflow_db
from alembic.script import ScriptDirectory
from mlflow.version import VERSION
from sqlalchemy import Engine, event, make_url
from sqlalchemy.exc import DatabaseError

from mlflow_timescale import db
from mlflow_timescale.common import logs
from mlflow_timescale.common.text import one_line
from mlflow_timescale.db.masking import without_secrets

WRITE_AHEAD = b"\x02\x02"  # the file format versions of a sqlite header, with a log
_sqlite = db.load("sqlite")


class ImportFailed(db.Error):
    """The data cannot be imported."""


@cache
def revisions() -> list[str]:
    """The schema revisions of this MLflow, newest first."""
    config = mlflow_db._get_alembic_config(db_url="")
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]


def require_this_schema(engine: Engine, url: str) -> None:
    """Raise ImportFailed if the schema of a database is not that of this MLflow."""
    revision, newest = mlflow_db._get_schema_version(engine), revisions()[0]
    if revision == newest:
        return
    if revision is None:
        raise ImportFailed("there are no MLflow tables in the source")
    name = without_secrets(make_url(url).render_as_string(hide_password=True))
    raise ImportFailed(
        f"the source is of an older MLflow (schema {revision}, this one has {newest}), and a "
        f"server is not copied: dump it into another database (`pg_dump ... | psql ...`), run "
        f"`mlflow db upgrade` there, and name that one; or take a backup and run `mlflow db "
        f"upgrade '{name}'`"
        if revision in revisions()
        else f"the source is of a newer MLflow (schema {revision} is not known to {VERSION}): "
        f"install that version here first"
    )


def is_older(engine: Engine) -> bool:
    """Whether a database has an older schema that MLflow can migrate."""
    try:
        return mlflow_db._get_schema_version(engine) in revisions()[1:]
    except DatabaseError:
        return False  # it cannot be read; the reader raises the error


def read_only_file(path: Path) -> str:
    """The URI under which sqlite reads a file and leaves none beside it.

    With a write-ahead log even a reader makes two files. Where they are not there nothing has the
    database open, and it is opened as one that does not change.

    >>> read_only_file(Path("/data/mlflow.db"))
    'file:/data/mlflow.db?mode=ro'
    """
    uri = f"file:{path.absolute().as_uri().removeprefix('file://')}?mode=ro"
    if not path.is_file() or path.with_name(f"{path.name}-wal").exists():
        return uri
    with path.open("rb") as file:
        has_log = file.read(20)[18:20] == WRITE_AHEAD
    return f"{uri}&immutable=1" if has_log else uri


def upgrade(copy: Path, what: str) -> None:
    """Run MLflow's migrations on a scratch file.

    Raises ImportFailed, which calls the file `what`, if a migration fails.
    """
    engine = mlflow_db.create_sqlalchemy_engine(f"sqlite:///{copy}")
    event.listen(engine, "connect", _do_not_flush)
    try:
        with logs.quiet("alembic.runtime.migration", "mlflow.store.db.utils"):
            mlflow_db._upgrade_db(engine)
    except Exception as exc:
        reason = one_line(exc, 300)
        raise ImportFailed(f"MLflow's migrations fail on {what}: {reason}") from exc
    finally:
        engine.dispose()


def _do_not_flush(connection: sqlite3.Connection, _: Any) -> None:
    """Switch off durability for a scratch file; each of 60 migrations would wait for the disk."""
    connection.execute(_sqlite.no_flush.as_string())
