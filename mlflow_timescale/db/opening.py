"""Opening one connection: what every connection sends at its start, and why one failed.

Nothing here sets the state of a session with a statement, unless a pooler between us and the server
drops the options of the start: see `session.settle`.
"""

from __future__ import annotations

import getpass
import os
import socket
import time
from functools import cache
from typing import Any

import psycopg

from mlflow_timescale.db.connection import Connection
from mlflow_timescale.db.errors import ConnectionFailed
from mlflow_timescale.db.masking import without, without_secrets
from mlflow_timescale.db.uri import DatabaseURI

# A peer that vanished without a word is noticed within about a minute: an idle connection by
# keep-alive probes, one that has sent a statement by tcp_user_timeout (milliseconds).
NETWORK = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
_FROM_ENVIRONMENT = {"connect_timeout": "PGCONNECT_TIMEOUT"}
_NAME_BYTES = 63  # the server cuts a longer application_name off
# Replaying the log of a large database takes longer than starting: longer than pg_ctl waits.
_STARTUP_SECONDS = 120.0
_STARTUP = ("starting up", "in recovery mode", "not yet accepting connections")
# A session that begins while the server ends all of them, because one crashed.
_CRASH = ("because of crash of another server process", "server closed the connection unexpectedly")

_SHORTEST = 6  # characters of a password that is masked wherever it stands as a word


def network_keywords() -> dict[str, str]:
    """The libpq keywords that keep a dead network from blocking a call without limit."""
    return {
        name: value
        for name, value in NETWORK.items()
        if _FROM_ENVIRONMENT.get(name, "") not in os.environ
    }


@cache
def application_name(application: str) -> str:
    """The name of this process in `pg_stat_activity`: program, user and host.

    >>> application_name("mlflow").startswith("mlflow ")
    True
    """
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container whose user id has no name
        user = str(os.getuid())
    name = f"{application} {user}@{socket.gethostname()}"
    return name.encode()[:_NAME_BYTES].decode(errors="ignore")


def open_connection(keywords: dict[str, Any], *, waits_for_startup: bool) -> Connection:
    """Connect; with `waits_for_startup`, wait for a server that replays its log after a crash.

    Raises psycopg.OperationalError.
    """
    deadline = time.monotonic() + (_STARTUP_SECONDS if waits_for_startup else 0.0)
    while True:
        try:
            return Connection.connect(**keywords)
        except psycopg.OperationalError as exc:
            if time.monotonic() >= deadline or not is_startup(exc):
                raise
        time.sleep(0.1)


def is_startup(exc: BaseException) -> bool:
    """Whether a server refused because it is starting (SQLSTATE 57P03), after a crash or not.

    libpq gives no SQLSTATE for a failed connection, only the text, which the embedded server always
    writes in English.
    """
    return any(sign in str(exc) for sign in (*_STARTUP, *_CRASH))


def connection_failed(exc: psycopg.OperationalError, uri: DatabaseURI) -> ConnectionFailed:
    """The error for a failed connection: where to, without the password, and what usually helps."""
    reason = in_one_line(str(exc), uri).rstrip(".")
    permanent, advice = _advice(reason)
    failure = ConnectionFailed(
        f"cannot connect to {uri}: {reason}. {advice.format(dbname=uri.dbname)}"
    )
    failure.permanent = permanent
    return failure


def connection_lost(exc: psycopg.OperationalError, uri: DatabaseURI) -> ConnectionFailed:
    """The error for a connection that the server or the network ended during a call."""
    reason = in_one_line(str(exc), uri).rstrip(".")
    return ConnectionFailed(
        f"lost the connection to {uri}: {reason}. What was not committed was rolled back; try again"
    )


def in_one_line(text: str, uri: DatabaseURI) -> str:
    """A text of the driver in one line, without secrets: in URIs, after "password=", as words.

    A short secret, or one that equals the user, the host or the database, is an ordinary word of
    such texts: it is masked in the first two forms only.
    """
    words = {
        secret
        for secret in uri.secrets
        if len(secret) >= _SHORTEST and secret not in (uri.user, uri.host, uri.dbname)
    }
    return without(without_secrets(" ".join(text.split())), words)


def _advice(reason: str) -> tuple[bool, str]:
    for sign, permanent, advice in _ADVICE:
        if sign in reason:
            return permanent, advice
    return False, "Check host, port and user in the URI."


_ADVICE = (
    ("No such file", False, "Check that the server runs, and the socket directory in the URI."),
    ("password authentication failed", True, "Check user and password in the URI."),
    ("no password supplied", True, "Put the password into the URI, PGPASSWORD or ~/.pgpass."),
    ("no pg_hba.conf entry", True, "The server does not let this user in from here: pg_hba.conf."),
    # Before the next line: the limit may be that of a role.
    ("too many clients", False, "Raise max_connections, or lower the pool size."),
    ("too many connections", False, "Raise the connection limit, or lower the pool size."),
    ('role "', True, "Check the user in the URI."),
    ("does not exist", True, "Create it first: createdb {dbname}."),
    *(
        (sign, False, "It replays its log after a crash or a start; try again.")
        for sign in _STARTUP
    ),
    (
        "unsupported startup parameter",
        True,
        "The pooler does not pass `options` on: remove it from the URI; use ALTER ROLE ... SET.",
    ),
    ("server closed the connection", False, "It is starting or has stopped; try again."),
    ("refused", False, "Check that the server runs and listens there."),
    ("could not translate host name", False, "Check the host name in the URI."),
    ("failed to resolve host", False, "Check the host name in the URI."),
    ("timeout", False, "Check the host and port in the URI, and the firewall between."),
)
