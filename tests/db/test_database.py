"""`Database`: pooled, bounded, checked, safe for forks, and quick to tell what is wrong."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from support.forks import fork, wait_for
from support.servers import free_port, listening

from mlflow_timescale import db
from mlflow_timescale.db import ConnectionFailed, Database, DatabaseURI
from mlflow_timescale.db.rows import scalar

PID = "SELECT pg_backend_pid()"


@pytest.fixture
def pooled(database: DatabaseURI) -> Iterator[Database]:
    made = Database(database)
    yield made
    made.close()


@pytest.fixture
def silent() -> Iterator[DatabaseURI]:
    """The URI of a listener that accepts connections and never answers."""
    with listening() as port:
        yield DatabaseURI.parse(f"timescaledb://ann@127.0.0.1:{port}/d")


@pytest.fixture
def refusing() -> DatabaseURI:
    """The URI of a port on which nothing listens."""
    return DatabaseURI.parse(f"timescaledb://ann@127.0.0.1:{free_port()}/d")


def pid_of(pooled: Database) -> int:
    with pooled.connection() as conn:
        return int(scalar(conn, PID))


def test_a_connection_is_used_again(pooled: Database) -> None:
    assert pid_of(pooled) == pid_of(pooled)


def test_a_connection_that_the_server_ended_is_replaced_at_once(
    pooled: Database, conn: db.Connection
) -> None:
    with pooled.connections(3) as conns:
        pids = [int(scalar(conn, PID)) for conn in conns]
    for pid in pids:
        conn.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    begin = time.monotonic()
    assert pid_of(pooled) not in pids
    assert time.monotonic() - begin < 5


def test_a_connection_lost_within_a_block_is_an_error_that_names_the_database(
    pooled: Database, conn: db.Connection
) -> None:
    with (
        pytest.raises(ConnectionFailed, match="lost the connection to postgresql"),
        pooled.connection() as lost,
    ):
        lose(lost, conn)
    assert pid_of(pooled) > 0


def lose(lost: db.Connection, conn: db.Connection) -> None:
    conn.execute("SELECT pg_terminate_backend(%s, 5000)", [lost.info.backend_pid])
    lost.execute("SELECT 1")


def test_an_open_transaction_does_not_leave_the_block(pooled: Database) -> None:
    with pooled.connection() as conn:
        conn.execute("BEGIN")
        conn.execute("CREATE TABLE left_over (a integer)")
    with pooled.connection() as conn:
        assert scalar(conn, "SELECT to_regclass('left_over')") is None


def test_a_transaction_commits_at_its_end_and_not_after_an_error(pooled: Database) -> None:
    with pooled.transaction() as conn:
        conn.execute("CREATE TABLE kept (a integer)")
    with pytest.raises(psycopg.errors.DivisionByZero), pooled.transaction() as conn:
        conn.execute("INSERT INTO kept VALUES (1), (1 / 0)")
    with pooled.connection() as conn:
        assert scalar(conn, "SELECT count(*) FROM kept") == 0


def test_a_pool_is_bounded_and_says_so(database: DatabaseURI, monkeypatch) -> None:
    monkeypatch.setattr("mlflow_timescale.db.database._WAIT_SECONDS", 0.3)
    pooled = Database(with_option(database, "pool_size", "2"))
    with pooled.connections(2), pytest.raises(ConnectionFailed, match="all 2 connections"):
        pid_of(pooled)
    pooled.close()


def test_threads_that_need_two_connections_do_not_wait_for_each_other(
    database: DatabaseURI,
) -> None:
    pooled = Database(with_option(database, "pool_size", "3"))
    begin, pairs = threading.Barrier(12), []

    def work() -> None:
        begin.wait()
        for _ in range(5):
            with pooled.connections(2) as conns:
                pairs.append({int(scalar(conn, PID)) for conn in conns})

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    pooled.close()
    assert [len(pair) for pair in pairs] == [2] * 60


def test_a_process_with_many_open_files_gets_connections(pooled: Database) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, limits[1]), limits[1]))
    try:
        with ExitStack() as files:
            for _ in range(1100):
                files.enter_context(Path(os.devnull).open())
            assert pid_of(pooled) == pid_of(pooled)
    finally:
        pooled.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_refusing_server_is_an_error_at_once(refusing: DatabaseURI) -> None:
    begin = time.monotonic()
    with pytest.raises(ConnectionFailed, match="refused"):
        Database(refusing).check()
    with pytest.raises(ConnectionFailed, match="refused"):
        pid_of(Database(refusing))
    assert time.monotonic() - begin < 2


@pytest.mark.slow
def test_a_silent_server_is_an_error_within_the_time_given(silent: DatabaseURI) -> None:
    begin = time.monotonic()
    with pytest.raises(ConnectionFailed, match="timeout"):
        Database(silent).check(timeout=2)
    assert time.monotonic() - begin < 4


@pytest.mark.slow
def test_the_uri_bounds_the_wait_for_a_silent_server(silent: DatabaseURI) -> None:
    begin = time.monotonic()
    with pytest.raises(ConnectionFailed, match="timeout"):
        pid_of(Database(with_option(silent, "connect_timeout", "2")))
    assert time.monotonic() - begin < 4


def test_a_server_that_stops_is_an_error_at_once(database: DatabaseURI, monkeypatch) -> None:
    """The pool fails to connect in its thread; the caller gets the error without a wait."""
    pooled = Database(database)
    pid_of(pooled)
    pooled.close()

    def refuse(*arguments: object, **keywords: object) -> None:
        raise psycopg.OperationalError("connection refused")

    monkeypatch.setattr("mlflow_timescale.db.database.connect_driver", refuse)
    begin = time.monotonic()
    with pytest.raises(ConnectionFailed, match="connection refused"):
        pid_of(pooled)
    assert time.monotonic() - begin < 3


def test_readers_see_what_the_transaction_sees(pooled: Database, conn: db.Connection) -> None:
    conn.execute("CREATE TABLE seen (a integer)")
    with pooled.transaction() as first:
        first.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert scalar(first, "SELECT count(*) FROM seen") == 0
        conn.execute("INSERT INTO seen VALUES (1)")
        with pooled.readers(first, 3) as conns:
            assert len({int(scalar(conn, PID)) for conn in conns}) == 3
            assert [scalar(conn, "SELECT count(*) FROM seen") for conn in conns] == [0, 0, 0]


def test_a_lock_is_held_until_the_block_ends(pooled: Database) -> None:
    lock = "SELECT pg_try_advisory_xact_lock(%(key)s)"
    with pooled.lock(lock, {"key": 7}) as first:
        assert first
        with pooled.lock(lock, {"key": 7}) as second:
            assert not second
    with pooled.lock(lock, {"key": 7}) as third:
        assert third


def test_a_forked_child_and_its_parent_read_and_write_at_once(pooled: Database) -> None:
    with pooled.connection() as conn:
        conn.execute("CREATE TABLE written (process integer)")
    stop, errors = threading.Event(), []

    def parent() -> None:  # forks happen while this thread holds connections and locks
        while not stop.is_set():
            try:
                write(pooled, 0)
            except Exception as exc:
                errors.append(exc)

    thread = threading.Thread(target=parent)
    thread.start()
    children = [fork(lambda: [write(pooled, 1) for _ in range(30)]) for _ in range(4)]
    codes = [wait_for(child) for child in children]
    stop.set()
    thread.join(30)
    assert codes == [0] * 4
    assert errors == []
    with pooled.connection() as conn:
        assert scalar(conn, "SELECT count(*) FROM written WHERE process = 1") == 120


def test_a_fork_within_a_block_leaves_the_parents_connection_open(pooled: Database) -> None:
    with pooled.connection() as conn:
        pid = scalar(conn, PID)

        def leave() -> None:
            conn.close()
            pooled.close()

        assert wait_for(fork(leave)) == 0
        assert scalar(conn, PID) == pid
    assert pid_of(pooled) == pid


def write(pooled: Database, process: int) -> None:
    with pooled.transaction() as conn:
        conn.execute("INSERT INTO written VALUES (%s)", [process])
        conn.execute("SELECT count(*) FROM written").fetchone()


def with_option(uri: DatabaseURI, name: str, value: str) -> DatabaseURI:
    url = uri.url
    return DatabaseURI.parse(f"{url}{'&' if '?' in url else '?'}{name}={value}")


def test_what_uses_the_server_of_the_run_is_marked(
    database: DatabaseURI, request: pytest.FixtureRequest
) -> None:
    """CI runs on TimescaleDB what tests/conftest.py marks."""
    assert request.node.get_closest_marker("database")


def test_what_does_not_use_it_is_not_marked(request: pytest.FixtureRequest) -> None:
    assert not request.node.get_closest_marker("database")


def test_a_pool_is_shared_unless_its_connections_lack_the_setup(database: DatabaseURI) -> None:
    def adapt(conn: psycopg.Connection) -> None: ...

    plain, adapted = Database(database), Database(database, setup=adapt)
    assert Database.of(plain) is plain
    assert Database.of(adapted) is adapted
    assert Database.of(adapted, setup=adapt) is adapted
    other = Database.of(plain, setup=adapt)
    assert (other.uri, other.setup) == (plain.uri, adapt)
