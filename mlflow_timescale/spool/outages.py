"""Whether a failure is an outage: a state of the server, not a mistake of the call."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from mlflow_timescale.db.errors import ConnectionFailed

# Classes of SQLSTATE: connections, a server that became a replica, rolled back transactions, a full
# disk, locks, shutdown, I/O.
_AWAY = ("08", "25", "40", "53", "55", "57", "58")
_LOST = (psycopg.OperationalError, psycopg.InterfaceError)  # without a SQLSTATE of the server


def is_outage(failure: BaseException, *, has_connected: bool = True) -> bool:
    """Whether the same call can succeed later.

    A wrong password or name is an error, unless the process `has_connected` before: then it is an
    outage.

    >>> is_outage(psycopg.errors.AdminShutdown()), is_outage(psycopg.errors.CheckViolation())
    (True, False)
    """
    for cause in _causes(failure):
        if isinstance(cause, ConnectionFailed):
            return has_connected or not cause.permanent
        if isinstance(cause, psycopg.Error):
            state = cause.sqlstate
            return isinstance(cause, _LOST) if state is None else state[:2] in _AWAY
    return False


def _causes(failure: BaseException | None) -> Iterator[BaseException]:
    while failure is not None:
        yield failure
        failure = failure.__cause__ or failure.__context__
