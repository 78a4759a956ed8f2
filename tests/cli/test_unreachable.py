"""Every command answers a server that refuses, is silent, or has another schema in one line."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import pytest
from support.commands import leaves
from support.servers import free_port, listening

from mlflow_timescale import db
from mlflow_timescale.cli import cli, main
from mlflow_timescale.db import ConnectionFailed, DatabaseURI

SECONDS = 5
FILE, SPINE, NEW, FOLDER, VIEWS = "{file}", "{spine}", "{new}", "{folder}", "{views}"
SESSIONS = "{sessions}"
NAMES = ["-f", "rsi"]
DAYS = ["2024-01-02", "2024-01-03"]
COMMANDS = {
    "adopt": [],
    "artifacts adopt": [],
    "artifacts list": ["--version", "momentum/1"],
    "artifacts prune": ["--yes"],
    "artifacts verify": ["--workspace", "alpha"],
    "daily": [],
    "demo": [],
    "doctor": [],
    "drift accept": [*DAYS, "--reason", "calm"],
    "drift ack": ["1"],
    "drift alerts": [],
    "drift backfill": DAYS,
    "drift forget": ["--before", "2024-01-02"],
    "drift from-qlib": ["alpha158"],
    "drift onset": [],
    "drift record": ["returns", FILE],
    "drift report": ["-o", NEW],
    "drift rules list": [],
    "drift rules simulate": [],
    "drift rules use": ["classic"],
    "drift run": [],
    "drift repaired": ["rsi", "2024-01-02", "--reason", "rerun"],
    "drift silence": ["ic", "--reason", "calm", "--until", "2024-01-02T00:00Z"],
    "drift status": [],
    "features describe": ["momentum"],
    "features diff": ["2024-01-02T00:00Z", "2024-01-03T00:00Z"],
    "features export": [NEW],
    "features health": [],
    "features history": ["AAPL", "rsi"],
    "features latest": ["AAPL"],
    "features leaks": [SPINE, *NAMES],
    "features lineage": ["rsi"],
    "features list": [],
    "features register": [VIEWS],
    "features snapshot": [SPINE, NEW, *NAMES],
    "features universe": ["sp500", FILE],
    "features training": [SPINE, *NAMES],
    "features verify": [NEW, "--rebuild"],
    "features watermark": [],
    "features write": [FILE],
    "artifacts fetch": ["0123", "pred.pkl", "-o", NEW],
    "artifacts history": ["0123", "pred.pkl"],
    "history keep-path": ["pred.pkl"],
    "history keep-tag": ["stage"],
    "history list": [],
    "history tags": ["0123"],
    "import": ["sqlite:///mlflow.db"],
    "incident explain": ["-s", "momentum"],
    "incident onset": [],
    "incident replay": ["momentum", "AAPL"],
    "incident skew": [],
    "incident version": [],
    "metrics extremes": ["on"],
    "migrate": [],
    "pack": [],
    "qlib online": ["workflow"],
    "qlib run": [FILE],
    "registry at": ["momentum", "live", "2024-01-02T00:00Z"],
    "registry history": ["momentum"],
    "registry rollback": ["momentum", "live", "--reason", "worse"],
    "release": [],
    "reproduce": ["0123"],
    "retention": ["--days", "3", "--yes"],
    "roles": [],
    "server": ["--port", "{port}"],
    "sessions import": [SESSIONS, "--calendar", "XNYS"],
    "spool drain": ["--spool", FOLDER],
    "sync": ["sqlite:///mlflow.db"],
}


# Commands that need no server.
OFFLINE = {"postmortem", "spool status"}


class Answer(NamedTuple):
    """How a command ended, and after how many seconds."""

    error: BaseException | None
    seconds: float


def test_the_list_of_this_test_is_complete() -> None:
    assert sorted(COMMANDS) == sorted({name for name, _ in leaves()} - OFFLINE)


def words_of(command: str, folder: Path) -> list[str]:
    file = folder / "file.csv"
    file.write_text("entity_key,as_of\nAAPL,2024-01-02T00:00:00Z\n")
    sessions = folder / "day.txt"
    sessions.write_text("2024-01-02\n2024-01-03\n")
    views = folder / "views.json"
    views.write_text('{"name": "momentum", "features": ["rsi"]}')
    places = {FILE: str(file), SPINE: str(file), NEW: str(folder / "new"), VIEWS: str(views)}
    places[SESSIONS] = str(sessions)
    places |= {FOLDER: str(folder), "{port}": str(free_port())}
    return [places.get(word, word) for word in COMMANDS[command]]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_refuses_is_one_line(
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    uri = "postgresql+timescaledb://ann@127.0.0.1:1/trading"
    begin = time.monotonic()
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--uri", uri, *words_of(command, tmp_path)])
    assert time.monotonic() - begin < SECONDS
    assert end.value.code == 1
    out, err = capsys.readouterr()
    error = [line for line in err.splitlines() if not line.startswith("Database ")]  # `server`
    assert len(error) == 1, err
    assert error[0].startswith("Error: cannot connect to ")
    assert "refused" in error[0]
    assert "s3cret" not in out + err
    assert out == ""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Answer]]:
    """All commands at the same time, against a server that accepts connections and never answers.

    In threads, since each waits for seconds; their output is not separated.
    """
    folder = tmp_path_factory.mktemp("silent")
    with listening(backlog=200) as port, ThreadPoolExecutor(len(COMMANDS)) as pool:
        uri = f"postgresql+timescaledb://ann@127.0.0.1:{port}/trading"

        def call(command: str) -> Answer:
            begin = time.monotonic()
            words = [*command.split(), "--uri", uri, *words_of(command, folder)]
            with contextlib.suppress(SystemExit):
                try:
                    cli.main(words, standalone_mode=False)
                except Exception as exc:
                    return Answer(exc, time.monotonic() - begin)
            return Answer(None, time.monotonic() - begin)

        yield dict(zip(COMMANDS, pool.map(call, COMMANDS), strict=True))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_silent_server_is_given_up_soon(command: str, answers: dict[str, Answer]) -> None:
    error, seconds = answers[command]
    assert isinstance(error, ConnectionFailed)
    assert "timeout" in str(error)
    assert seconds < SECONDS


def test_a_silent_source_of_an_import_is_given_up_soon(capsys: pytest.CaptureFixture[str]) -> None:
    begin = time.monotonic()
    with pytest.raises(SystemExit) as end:
        main(["import", "postgresql://127.0.0.1:1/old", "--uri", "timescaledb+embedded:/nowhere"])
    assert (end.value.code, time.monotonic() - begin < SECONDS) == (1, True)
    assert "cannot connect to" in capsys.readouterr().err


@pytest.fixture(scope="module")
def newer(new_database: Callable[..., AbstractContextManager[DatabaseURI]]) -> Iterator[str]:
    """A database that a much newer mlflow-timescale migrated."""
    with new_database() as uri:
        with db.connect(uri, autocommit=True) as conn:
            conn.execute("UPDATE mlops.schema_state SET revision = 999, oldest_client = 999")
        yield uri.url


# `demo` and `server` start by preparing the same store as the others; `doctor` reports the schema;
# `features verify` needs a snapshot first, `qlib run` a workflow.
@pytest.mark.parametrize(
    "command",
    sorted(set(COMMANDS) - {"demo", "doctor", "features verify", "qlib run", "server"}),
)
def test_a_schema_that_is_too_new_is_one_line(
    command: str, newer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in words_of(command, tmp_path) if word not in ("--workspace", "alpha")]
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--uri", newer, *words])
    assert end.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert "upgrade" in err
