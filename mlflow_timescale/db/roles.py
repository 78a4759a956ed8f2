"""The group roles `mlops_reader`, `mlops_writer`, `mlops_operator` and `mlops_admin`.

Roles belong to the server, rights to a database. `sql/queries/roles.sql` compares the rights that
each role shall have with those that it has, and yields the statements between them. So the same
call sets the roles up, adds what a migration made, and takes everything back.

`mlops_admin` owns our objects and MLflow's tables: only an owner can alter a table, and functions
with the rights of their owner (SECURITY DEFINER) then belong to no superuser.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import psycopg

from mlflow_timescale.db import rows
from mlflow_timescale.db.connection import Connection
from mlflow_timescale.db.errors import Refused
from mlflow_timescale.db.queries import load
from mlflow_timescale.db.rights import ADMIN, ROLES, needs
from mlflow_timescale.db.uri import DatabaseURI

_queries = load("roles")
# Another database of the server may create the same role, or grant it, at the same moment.
_MADE_BY_OTHERS = (
    psycopg.errors.DuplicateObject,
    psycopg.errors.UniqueViolation,
    psycopg.errors.InternalError_,  # "tuple concurrently updated"
)


def is_set_up(conn: Connection) -> bool:
    """Whether the roles have rights in this database."""
    return bool(rows.scalar(conn, _queries.is_set_up))


def is_owner(conn: Connection) -> bool:
    """Whether this login may change the schema: as its owner, as a member of it, as a superuser.

    True too where there is no schema of ours yet.
    """
    return bool(rows.scalar(conn, _queries.is_owner))


def require_owner(conn: Connection, uri: DatabaseURI) -> None:
    """Raise Refused, in one line, unless `is_owner`."""
    if not is_owner(conn):
        raise Refused(f"{uri}: {needs(ADMIN, conn.info.user)}")


def changes(conn: Connection, tables: Sequence[str]) -> list[str]:
    """The statements that give the roles their rights, in order; none where they have them.

    Parameters
    ----------
    conn
        A connection to the database.
    tables
        The names of MLflow's tables; what else is in their schema belongs to other programs.
    """
    return [*_roles_and_members(conn), *rights(conn, tables)]


def apply(conn: Connection, tables: Sequence[str]) -> list[str]:
    """Execute `changes` in the current transaction, and return them.

    Raises psycopg.errors.InsufficientPrivilege: roles are created by a superuser or a role with
    CREATEROLE, and tables change hands by their owner.
    """
    done = _roles_and_members(conn)
    for statement in done:
        _execute_once(conn, statement)
    conn.execute(_queries.remember)
    # What the roles lack is computed now that they exist.
    return [*done, *regrant(conn, tables)]


def rights(conn: Connection, tables: Sequence[str]) -> list[str]:
    """The statements that give the roles, which exist, their tables and rights in this database."""
    owners = {"owner": ADMIN, "tables": list(tables)}
    grants = _grants(conn, tables, wanted=True)
    # To own a table one needs CREATE on its schema, which only the schema's owner grants.
    before = [each for each in grants if " ON SCHEMA " in each or " ON DATABASE " in each]
    return [
        *before,
        *rows.scalars(conn, _queries.owners, owners),
        *(each for each in grants if each not in before),
    ]


def reapply(conn: Connection) -> None:
    """Give the roles their rights on what a migration made, in the current transaction."""
    _execute(conn, rows.scalars(conn, _queries.earlier_writers, {}))
    if is_set_up(conn):
        regrant(conn, rows.scalars(conn, _queries.mlflow_tables))


def regrant(conn: Connection, tables: Sequence[str]) -> list[str]:
    """Execute `rights` in the current transaction, and return them."""
    statements = rights(conn, tables)
    _execute(conn, statements)
    return statements


def revocations(conn: Connection, tables: Sequence[str]) -> list[str]:
    """The statements that take all rights in this database from the roles, in order."""
    heir = {"heir": rows.scalar(conn, _queries.heir) if is_set_up(conn) else conn.info.user}
    return [
        *_grants(conn, tables, wanted=False),
        *rows.scalars(conn, _queries.give_back, heir),
    ]


def revoke(conn: Connection, tables: Sequence[str]) -> list[str]:
    """Execute `revocations` in the current transaction, and return them."""
    done = revocations(conn, tables)
    _execute(conn, done)
    conn.execute(_queries.forget)
    return done


def members(conn: Connection) -> list[tuple[str, list[str]]]:
    """The roles that exist on the server, each with the logins that have been granted it."""
    return conn.execute(_queries.members, {"roles": list(ROLES)}).fetchall()


def _roles_and_members(conn: Connection) -> list[str]:
    return [
        *rows.scalars(conn, _queries.missing, {"roles": list(ROLES)}),
        *rows.scalars(conn, _queries.job_owner),
        *rows.scalars(conn, _queries.memberships, {}),
        *rows.scalars(conn, _queries.new_admins, {}),
    ]


def _grants(conn: Connection, tables: Sequence[str], *, wanted: bool) -> list[str]:
    values = {"roles": list(ROLES), "tables": list(tables), "wanted": wanted}
    return rows.scalars(conn, _queries.grants, values)


def _execute(conn: Connection, statements: Sequence[str]) -> None:
    for statement in statements:
        conn.execute(statement.encode())  # names are quoted by the server


def _execute_once(conn: Connection, statement: str) -> None:
    with suppress(*_MADE_BY_OTHERS), conn.transaction():
        conn.execute(statement.encode())
