"""Setting up the group roles of a database, and taking their rights back."""

from __future__ import annotations

import psycopg

from mlflow_timescale import db
from mlflow_timescale.db import Connection, rights, roles, with_short_waits
from mlflow_timescale.schema import mlflow_tables

# What each role is for, in the words of docs/roles.md.
TASKS = {
    rights.READER: "reads and downloads everything, changes nothing",
    rights.WRITER: "logs runs, models, artifacts, features, predictions; runs the daily job",
    rights.OPERATOR: "reads; acknowledges, silences and accepts; moves aliases; audits",
    rights.ADMIN: "owns the tables: migrate, adopt, release, roles, retention, prune",
}


class RolesRefused(db.Error):
    """The role of this connection may not set the roles up."""


def set_up(conn: Connection, *, dry_run: bool = False) -> list[str]:
    """Create the roles and grant them their rights; return the statements.

    Parameters
    ----------
    conn
        A connection in autocommit mode.
    dry_run
        Change nothing.

    Raises
    ------
    RolesRefused
        The role of this connection may not create roles, or does not own the tables.

    Examples
    --------
    >>> bool(set_up(conn, dry_run=True))
    True
    """
    tables = mlflow_tables()
    planned = roles.changes(conn, tables)
    if dry_run or (not planned and roles.is_set_up(conn)):
        return planned
    try:
        with db.exclusively(conn):
            return with_short_waits(conn, lambda: roles.apply(conn, tables))
    except psycopg.errors.InsufficientPrivilege as exc:
        raise RolesRefused(rights.lacking(exc, conn.info.user, rights.ADMIN)) from exc


def regrant(conn: Connection) -> list[str]:
    """Grant the rights on tables that MLflow or a migration made; nothing without roles here."""
    tables = mlflow_tables()
    if not roles.is_set_up(conn) or not roles.rights(conn, tables):
        return []
    with db.exclusively(conn):
        return with_short_waits(conn, lambda: roles.regrant(conn, tables))


def take_back(conn: Connection, *, dry_run: bool = False) -> list[str]:
    """Take all rights in this database from the roles; return the statements.

    The tables go back to their owner of before where this connection may give them to it, else to
    the role of this connection. The roles themselves stay: other databases may use them.
    """
    tables = mlflow_tables()
    planned = roles.revocations(conn, tables)
    if dry_run or not (planned or roles.is_set_up(conn)):
        return planned
    with db.exclusively(conn):
        return with_short_waits(conn, lambda: roles.revoke(conn, tables))
