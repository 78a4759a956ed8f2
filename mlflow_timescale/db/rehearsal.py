"""A rehearsal: what this process does to databases through `Database` is rolled back at its end.

A command with `--dry-run` runs in one, so that what it prints is what it would do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from mlflow_timescale.db.connection import Connection
from mlflow_timescale.db.uri import DatabaseURI


class _Rehearsal:
    """One connection for each database: only its own transaction sees what was not committed."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.connections: dict[DatabaseURI, Connection] = {}

    def connection(self, uri: DatabaseURI, open_one: Callable[[], Connection]) -> Connection:
        if uri not in self.connections:
            conn = self.stack.enter_context(open_one())
            self.stack.enter_context(conn.transaction(force_rollback=True))
            self.connections[uri] = conn
        return self.connections[uri]


_current: _Rehearsal | None = None


@contextmanager
def rehearsal() -> Iterator[None]:
    """Roll back, at the end of the block, everything that any `Database` is used for in it.

    The block must work in one thread: all of it has one connection. What is no database (files,
    messages, MLflow runs) must look at `is_rehearsal`.

    Examples
    --------
    >>> from mlflow_timescale.db import Database
    >>> database = Database(uri)
    >>> with rehearsal(), database.connection() as conn:
    ...     _ = conn.execute("CREATE TABLE public.draft ()")
    >>> with database.connection() as conn:
    ...     conn.execute("SELECT to_regclass('public.draft')").fetchone()
    (None,)
    """
    global _current
    _current = _Rehearsal()
    try:
        with _current.stack:
            yield
    finally:
        _current = None


def is_rehearsal() -> bool:
    """Whether this process only rehearses."""
    return _current is not None


@contextmanager
def rehearsed(uri: DatabaseURI, open_one: Callable[[], Connection]) -> Iterator[Connection]:
    """The connection of the rehearsal; a block that raises leaves nothing to the next one."""
    assert _current is not None  # nosec B101  # for mypy
    conn = _current.connection(uri, open_one)
    with conn.transaction():
        yield conn
