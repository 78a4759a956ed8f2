"""The SQLAlchemy dialect behind `postgresql+timescaledb://`: psycopg 3, and embedded servers."""

from __future__ import annotations

import select
import time
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy.dialects.postgresql.psycopg import PGCompiler_psycopg, PGDialect_psycopg
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import ConnectArgsType, DBAPIConnection
from sqlalchemy.sql.elements import BinaryExpression, BindParameter
from sqlalchemy.types import Integer, String

from mlflow_timescale.db import embedded
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


# How long an answer of the server vouches for a connection whose socket has been silent since.
_TRUSTED_SECONDS = 5.0


class TimescaleDialect(PGDialect_psycopg):
    """psycopg 3 under the URIs of `DatabaseURI`.

    `name` stays "postgresql": MLflow and alembic branch on it.
    """

    supports_statement_cache = True
    statement_compiler = TimescaleCompiler

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._answered: WeakKeyDictionary[Any, float] = WeakKeyDictionary()

    def create_connect_args(self, url: URL) -> ConnectArgsType:
        """Keep the URI as it is: an embedded server is started when a connection is opened."""
        arguments, keywords = super().create_connect_args(URL.create("postgresql+psycopg"))
        uri = DatabaseURI.parse(url.render_as_string(hide_password=False))
        return arguments, {**keywords, "uri": uri}

    def connect(self, *arguments: Any, uri: DatabaseURI, **keywords: Any) -> DBAPIConnection:
        """Open a connection; an embedded server that has gone away is started again."""
        named = {"application_name": "mlflow", **embedded.keywords(uri)}
        connection = super().connect(*arguments, **named, **keywords)
        self._answered[connection] = time.monotonic()
        return connection

    def do_ping(self, dbapi_connection: DBAPIConnection) -> bool:
        """Is a pooled connection alive? MLflow's pools ask before each use.

        A server that ends a connection says so: the socket becomes readable. Only who has rested
        for a while could have been cut off silently, and costs a round trip.
        """
        now = time.monotonic()
        recent = now - self._answered.get(dbapi_connection, -_TRUSTED_SECONDS) < _TRUSTED_SECONDS
        if recent and not _readable(dbapi_connection):
            return True
        alive = bool(super().do_ping(dbapi_connection))
        self._answered[dbapi_connection] = now
        return alive


def _readable(connection: Any) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
