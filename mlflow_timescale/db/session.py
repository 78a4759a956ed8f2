"""The settings of a session that a database or a role must not decide, with or without a pooler.

`ALTER DATABASE ... SET datestyle = German` changes the text of every timestamp that a session
reads. So each connection names the settings that its answers depend on, in the options of its
start-up packet, which outrank those of the database and the role.

PgBouncer in transaction mode gives every transaction another server process. It refuses or drops
start-up options, and a prepared statement may be missing, or belong to another client, in the next
transaction. A pooler is recognised by the process id: the one of the start-up packet is not the one
that answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg

from mlflow_timescale.db.connection import Connection
from mlflow_timescale.db.errors import ConnectionFailed
from mlflow_timescale.db.queries import load
from mlflow_timescale.db.uri import DatabaseURI

SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "standard_conforming_strings": "on",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "default_transaction_isolation": "read committed",
}
# Compiling a query takes longer than running one of ours. The URI may decide otherwise.
_DEFAULTS = {"jit": "off"}
# The settings that PgBouncer, of any version, gives to the next server process too.
_TRACKED = frozenset({"TimeZone", "DateStyle", "standard_conforming_strings"})
_queries = load("server")


def startup_options(given: str = "") -> str:
    """The libpq keyword `options`: ours after those of the URI, which must not change an answer.

    >>> startup_options("-c search_path=trading").split(" -c ")[:3]
    ['-c jit=off', 'search_path=trading', 'TimeZone=UTC']
    """
    parts = [_options(_DEFAULTS), given.strip(), _options(SETTINGS)]
    return " ".join(filter(None, parts))


def _options(settings: Mapping[str, str]) -> str:
    return " ".join(
        f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items()
    )


def options_refused(exc: psycopg.OperationalError) -> bool:
    """Whether a pooler refused the start-up options; PgBouncer's text is not translated."""
    return "unsupported startup parameter" in str(exc)


def settle(conn: Connection, uri: DatabaseURI) -> None:
    """Look at what is at the other end; adapt the connection to a pooler. One round trip.

    Raises ConnectionFailed where a pooler's server processes have a setting that would change
    answers, and that the pooler does not keep for a client.
    """
    [(process, names, values)] = conn.execute(_queries.session, _parameters(SETTINGS)).fetchall()
    pooled = process != conn.info.backend_pid
    conn.pooled = pooled
    if pooled and not uri.prepares_statements:
        conn.prepare_threshold = None
    differing = dict(zip(names or (), values or (), strict=True))
    if not differing:
        return
    lost = sorted(differing.keys() - _TRACKED) if pooled else []
    if lost:
        conn.close()
        raise _setting_lost(uri, lost[0], differing[lost[0]])
    conn.execute(_queries.set_session, _parameters({name: SETTINGS[name] for name in differing}))


def _parameters(settings: Mapping[str, str]) -> dict[str, Any]:
    return {"names": list(settings), "values": list(settings.values())}


def _setting_lost(uri: DatabaseURI, name: str, value: str) -> ConnectionFailed:
    failure = ConnectionFailed(
        f"the pooler at {uri} gives sessions with {name} = {value}, and cannot give "
        f"{SETTINGS[name]!r} to a single client: ALTER DATABASE ... RESET {name}, and the same for "
        f"the role, or set it in the pooler's connect_query"
    )
    failure.permanent = True
    return failure
