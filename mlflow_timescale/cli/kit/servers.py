"""Can a command work with the database? Checked before anything that retries, or changes data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflow_timescale.db.uri import DatabaseURI

if TYPE_CHECKING:
    from mlflow_timescale.db import Connection

SECONDS = 3.0


def require_server(uri: DatabaseURI) -> None:
    """Connect once, and wait only briefly for an answer.

    MLflow retries a server that refuses connections for minutes. An embedded server is not checked:
    the command starts it.

    Parameters
    ----------
    uri
        The database. Raises ConnectionFailed.
    """
    if uri.embedded is None:
        from mlflow_timescale.db import Database

        Database(uri).check(SECONDS)


@contextmanager
def maintenance(uri: DatabaseURI, *, changes: bool = True) -> Iterator[Connection]:
    """An autocommit connection for a command that maintains the database.

    A role's time limits do not hold, and a wait for a lock ends with the name of the session that
    has it (`db.time_limits`).

    Parameters
    ----------
    uri
        The database. Raises ConnectionFailed, and LocksHeld.
    changes
        Whether the command changes more than rows. Raises Refused unless the login is an admin:
        before the command has done half of its work.
    """
    from mlflow_timescale import db
    from mlflow_timescale.db import roles

    with db.connect(uri, autocommit=True) as conn, db.time_limits(conn):
        if changes:
            roles.require_owner(conn, uri)
        yield conn


def require_admin(uri: DatabaseURI) -> None:
    """Check that the login may change the schema, before a command prompts for confirmation.

    Parameters
    ----------
    uri
        The database. Raises ConnectionFailed, and Refused in one line that names the role.
    """
    from mlflow_timescale import db
    from mlflow_timescale.db import roles

    with db.connect(uri, autocommit=True) as conn:
        roles.require_owner(conn, uri)


def require_schema(conn: Connection, uri: DatabaseURI, *, exists: bool = True) -> None:
    """Check that our schema is there, in a version that this installation knows.

    For commands that open a connection themselves; `Database` does the same.

    Parameters
    ----------
    conn
        A connection to the database.
    uri
        Named in the error. Raises MigrationError.
    exists
        False allows a database without our schema.
    """
    from mlflow_timescale import db
    from mlflow_timescale.db.revisions import no_schema

    state = db.read_state(conn)
    if state is not None:
        state.check(str(uri))
    elif exists:
        raise no_schema(str(uri))
