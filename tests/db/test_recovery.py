"""Clients of the embedded server wait while it replays its log after a crash."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from mlflow_timescale import db
from mlflow_timescale.db import DatabaseURI, opening
from mlflow_timescale.db.rows import scalar

pytestmark = pytest.mark.slow

STARTING = "connection failed: FATAL:  the database system is starting up"


def test_clients_that_come_during_recovery_are_served_after_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = []

    def is_startup(exc: BaseException) -> bool:
        refusals.append(str(exc))
        return real(exc)

    real = opening.is_startup
    monkeypatch.setattr(opening, "is_startup", is_startup)
    uri = DatabaseURI("trading", embedded=directory)
    with db.connect(uri, autocommit=True) as conn:
        conn.execute("CREATE TABLE kept AS SELECT generate_series(1, 300000) AS number")
    crash(uri)
    with db.connect(uri) as conn:
        assert scalar(conn, "SELECT count(*) FROM kept") == 300_000
    assert refusals


def crash(uri: DatabaseURI) -> None:
    """Kill a server process, and wait until PostgreSQL has ended the sessions of all others."""
    witness, victim = db.connect(uri, autocommit=True), db.connect(uri, autocommit=True)
    os.kill(victim.info.backend_pid, signal.SIGKILL)
    with suppress(psycopg.OperationalError):
        while True:
            witness.execute("SELECT 1")


def test_the_wait_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**keywords: object) -> None:
        raise psycopg.OperationalError(STARTING)

    monkeypatch.setattr(opening.Connection, "connect", refuse)
    monkeypatch.setattr(opening, "_STARTUP_SECONDS", 0.3)
    begin = time.monotonic()
    with pytest.raises(psycopg.OperationalError, match="starting up"):
        opening.open_connection({}, waits_for_startup=True)
    assert 0.3 <= time.monotonic() - begin < 5


def test_another_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**keywords: object) -> None:
        raise psycopg.OperationalError(STARTING)

    monkeypatch.setattr(opening.Connection, "connect", refuse)
    with pytest.raises(psycopg.OperationalError, match="starting up"):
        opening.open_connection({}, waits_for_startup=False)
