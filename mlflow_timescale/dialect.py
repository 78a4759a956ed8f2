"""The SQLAlchemy dialect behind `postgresql+timescaledb://`: psycopg 3, and embedded servers."""

from __future__ import annotations

import os
from typing import Any, cast
from weakref import WeakSet

from sqlalchemy import Engine
from sqlalchemy.dialects.postgresql.psycopg import PGCompiler_psycopg, PGDialect_psycopg
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import ConnectArgsType, DBAPIConnection
from sqlalchemy.sql.elements import BinaryExpression, BindParameter
from sqlalchemy.types import BigInteger, Integer, SmallInteger, String

from mlflow_timescale.db.connection import Connection
from mlflow_timescale.db.connections import connect_driver
from mlflow_timescale.db.masking import without_secrets
from mlflow_timescale.db.uri import DatabaseURI


class TimescaleCompiler(PGCompiler_psycopg):
    """Binds a string that is compared with an integer column as an integer.

    MLflow does so in add_dataset_to_experiments and transition_model_version_stage. psycopg2 lets
    it pass; SQLAlchemy's psycopg 3 dialect writes `= %s::VARCHAR`, which PostgreSQL refuses
    ("operator does not exist: integer = character varying"):
    https://github.com/mlflow/mlflow/issues/9151 and 24592. Remove when both are closed.
    """

    def visit_binary(self, binary: BinaryExpression[Any], *args: Any, **kwargs: Any) -> Any:
        left, right = binary.left, binary.right
        if (
            isinstance(right, BindParameter)
            and isinstance(right.type, String)
            and isinstance(left.type, Integer)
        ):
            binary = binary._clone()
            binary.right = right._with_binary_element_type(left.type)
        return super().visit_binary(binary, *args, **kwargs)


class _Uncast:
    """Sends integers as the smallest type that holds them, without a cast in the statement.

    SQLAlchemy's psycopg 3 dialect writes `= %s::INTEGER`. An id beyond 32 bits is then an error
    instead of an id that does not exist; psycopg2 writes the number as it is, without a type.
    """

    render_bind_cast = False


class _Integer(_Uncast, Integer):
    pass


class _SmallInteger(_Uncast, SmallInteger):
    pass


class _BigInteger(_Uncast, BigInteger):
    pass


_INTEGERS = {Integer: _Integer, SmallInteger: _SmallInteger, BigInteger: _BigInteger}


class MaskedURL(URL):
    """A URL that is printed without secrets; SQLAlchemy's hides the password of the user only.

    >>> from sqlalchemy import make_url
    >>> str(MaskedURL._make(make_url("postgresql://ann:s3cret@db/trading?sslpassword=t0p")))
    'postgresql://ann:***@db/trading?sslpassword=***'
    """

    def render_as_string(self, hide_password: bool = True) -> str:
        """The URL as a text, with its secrets if they are not to be hidden."""
        text = super().render_as_string(hide_password=hide_password)
        return without_secrets(text) if hide_password else text

    def __hash__(self) -> int:
        return hash(super().render_as_string())


class TimescaleDialect(PGDialect_psycopg):
    """psycopg 3 under the URIs of `DatabaseURI`, opened as every connection of ours is.

    `name` stays "postgresql": MLflow and alembic branch on it.
    """

    supports_statement_cache = True
    colspecs = PGDialect_psycopg.colspecs | _INTEGERS
    statement_compiler = TimescaleCompiler

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        """Remember an engine: a forked child gives it a pool of its own. Mask its URL's secrets."""
        _engines.add(engine)
        engine.url = MaskedURL._make(engine.url)

    def create_connect_args(self, url: URL) -> ConnectArgsType:
        """Keep the URI as it is: an embedded server is started when a connection is opened."""
        arguments, keywords = super().create_connect_args(URL.create("postgresql+psycopg"))
        uri = DatabaseURI.parse(url.render_as_string(hide_password=False))
        return arguments, {**keywords, "uri": uri}

    def connect(self, *arguments: Any, uri: DatabaseURI, **keywords: Any) -> DBAPIConnection:
        """Open a connection; an embedded server that has gone away is started again."""
        return cast("DBAPIConnection", connect_driver(uri, "mlflow", **keywords))

    def do_ping(self, dbapi_connection: DBAPIConnection) -> bool:
        """Check a pooled connection; MLflow's pools do so before each use."""
        return cast("Connection", dbapi_connection).is_alive()


_engines: WeakSet[Engine] = WeakSet()


def _after_fork() -> None:
    # The pool's threads are gone and its locks may never be released: replace it, as SQLAlchemy's
    # documentation advises, without closing the parent's connections.
    for engine in list(_engines):
        _inherited.append(engine.pool)
        engine.dispose(close=False)


_inherited: list[object] = []  # pools of the parent: never closed, never collected
os.register_at_fork(after_in_child=_after_fork)
