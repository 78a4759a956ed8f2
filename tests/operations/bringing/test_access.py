"""Access to a source in use, and to a target that another call brings runs into."""

from __future__ import annotations

import re
import sqlite3
import threading
from contextlib import closing
from typing import Any

import pytest
from click.testing import CliRunner
from support.bringing import Source, Target
from support.databases import dispose_engines

from mlflow_timescale import db
from mlflow_timescale.cli import cli
from mlflow_timescale.operations.bringing import merging
from mlflow_timescale.operations.bringing.turns import turn

pytestmark = pytest.mark.slow  # MLflow's migrations on sqlite take 10 s


def test_a_second_call_waits_for_the_first_and_names_its_session(target: Target) -> None:
    notes: list[str] = []
    order: list[str] = []
    is_waiting = threading.Event()

    def second() -> None:
        def note(line: str) -> None:
            notes.append(line)
            is_waiting.set()

        with db.connect(target.uri, autocommit=True) as conn, turn(conn, note):
            order.append("second")

    thread = threading.Thread(target=second)
    with db.connect(target.uri, autocommit=True) as conn:
        with turn(conn, notes.append):
            thread.start()
            assert is_waiting.wait(60)
            order.append("first")
        pid = conn.info.backend_pid
    thread.join(60)
    assert order == ["first", "second"]
    assert notes == [
        f"another import or sync (session {pid}) brings runs into this database: waiting"
    ]


def test_a_connection_that_ends_is_named_without_log_lines(
    source: Source,
    target: Target,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def end(url: str, conn: db.Connection, **_: Any) -> None:
        with conn.transaction():
            conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(merging, "merge_from", end)
    result = CliRunner().invoke(cli, ["sync", source.url, "--uri", target.uri.url])
    assert re.search(r"lost the connection to .*; try again", str(result.exception))
    assert [each for each in caplog.records if each.name.startswith("psycopg")] == []


def test_a_sqlite_file_can_be_written_while_it_is_brought(source: Source, target: Target) -> None:
    source.run()
    dispose_engines()
    writes = []

    def write(done: int, total: int) -> None:
        with closing(sqlite3.connect(source.path, timeout=0)) as writer:
            writer.execute("UPDATE runs SET name = 'later'")
            writer.commit()
            writes.append((done, total))

    target.merge(source, on_runs=write)
    assert writes == [(1, 1)]
    assert target.rows("SELECT count(*) FROM runs WHERE name = 'later'") == [(0,)]


def test_a_sqlite_file_with_a_write_ahead_log_is_named_by_its_path_and_gets_no_file_beside_it(
    source: Source, target: Target
) -> None:
    run = source.run()
    dispose_engines()
    with closing(sqlite3.connect(source.path)) as database:
        database.execute("PRAGMA journal_mode = wal")
    before = source.path.read_bytes()
    assert target.merge(source.path).runs == 1
    assert target.client.get_run(run).info.run_id == run
    assert [each.name for each in source.path.parent.glob("mlflow.db*")] == ["mlflow.db"]
    assert source.path.read_bytes() == before


def test_the_source_is_only_read(source: Source, target: Target) -> None:
    source.run()
    dispose_engines()
    before = {
        path.name: path.read_bytes() for path in source.path.parent.iterdir() if path.is_file()
    }
    source.path.chmod(0o444)
    target.merge(source)
    after = {
        path.name: path.read_bytes() for path in source.path.parent.iterdir() if path.is_file()
    }
    assert after == before
