"""A database that is away stops no call: requests wait on the disk, and arrive in order, once."""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from support.spools import wait_until_empty

from benchmarks.databases import Switch
from drift import Serving
from drift.inputs.recording import Contradiction
from drift.serving import memory
from mlflow_timescale import db
from mlflow_timescale.cli import main
from mlflow_timescale.db.embedded import keywords
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.spool import Spool

CLOSE = datetime(2024, 4, 18, 19, 55, tzinfo=timezone.utc)
SESSION = date(2024, 4, 18)


@pytest.fixture
def switch(server: DatabaseURI, served_database: DatabaseURI) -> Iterator[Switch]:
    switch = Switch(server, served_database.dbname)
    yield switch
    switch.set(on=True)


@pytest.fixture
def live(serving: Callable[..., Serving], tmp_path: Path) -> Serving:
    return serving(spool=Spool(tmp_path / "spool", fsync="os"))


def outputs(live: Serving) -> list[float]:
    """What is recorded, in the order of recording."""
    with live.database.connection() as conn:
        blocks = list(memory.served(conn, live.strategy, date(2000, 1, 1), date(2100, 1, 1)))
    return [block.outputs[0] for block in sorted(blocks, key=lambda block: block.recorded_at)]


def record(live: Serving, number: int) -> Any:
    return live.record(
        "A",
        output=float(number),
        features={"x": number, "none": None, "text": "a"},
        event_times=CLOSE,
        as_of=CLOSE + timedelta(seconds=number),
        request_id=str(number),
        latency=timedelta(milliseconds=number),
    )


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The default folder of spools is one of the test's own."""
    monkeypatch.setenv("MLFLOW_TIMESCALE_SPOOL", str(tmp_path / "default"))


def test_what_is_recorded_in_an_outage_arrives_in_order(live: Serving, switch: Switch) -> None:
    assert not record(live, 0).is_spooled
    with switch.away():
        assert [record(live, number).is_spooled for number in (1, 2, 3)] == [True] * 3
    wait_until_empty(live._outbox.spool)
    assert not record(live, 4).is_spooled
    assert outputs(live) == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_request_comes_out_of_the_spool_as_it_went_in(
    live: Serving, serving: Callable[..., Serving], switch: Switch, tmp_path: Path
) -> None:
    record(live, 7)
    other = Serving(live.uri, f"{live.strategy} b", spool=tmp_path / "b", code_version="4f2a9c1")
    with switch.away():
        record(other, 7)
    wait_until_empty(other._outbox.spool)
    with live.database.connection() as conn:
        [direct] = memory.served(conn, live.strategy, SESSION, SESSION)
        [spooled] = memory.served(conn, other.strategy, SESSION, SESSION)
    for name in ("as_of", "request_id", "latency_ms", "feature_names", "others", "code_version"):
        assert getattr(direct, name) == getattr(spooled, name)
    for name in ("outputs", "absent", "event"):
        assert (getattr(direct, name) == getattr(spooled, name)).all()
    other.close()


def test_a_process_that_starts_in_an_outage_records_too(
    serving: Callable[..., Serving], switch: Switch, tmp_path: Path
) -> None:
    live = serving(spool=tmp_path / "spool")
    with switch.away():
        assert record(live, 1).is_spooled
    wait_until_empty(live._outbox.spool)
    assert outputs(live) == [1.0]


def test_the_next_process_sends_what_an_earlier_one_left(
    serving: Callable[..., Serving], switch: Switch, tmp_path: Path
) -> None:
    first = serving(spool=tmp_path / "spool")
    with switch.away():
        record(first, 1)
        first.close()
    second = serving(spool=tmp_path / "spool")
    assert not record(second, 2).is_spooled
    assert outputs(second) == [1.0, 2.0]


def test_the_command_drains_and_shows_a_spool(
    serving: Callable[..., Serving],
    switch: Switch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    live = serving(spool=tmp_path / "spool")
    record(live, 1)
    with switch.away():
        record(live, 2)
        record(live, 1)  # recorded before
        live.record("A", output=9.0, as_of=CLOSE + timedelta(seconds=1))  # contradicts
        record(live, 3)
        live.close()
    options = ["--uri", live.uri.url, "--spool", str(tmp_path / "spool"), "--json"]
    assert run("spool", "status", *options) == 0
    assert json.loads(capsys.readouterr().out)["kinds"] == {"serving": 4}
    assert run("spool", "drain", *options) == 3
    drained = json.loads(capsys.readouterr().out)
    assert (drained["sent"], drained["repeated"], drained["refused"]) == (2, 1, 1)
    assert outputs(live) == [1.0, 2.0, 3.0]
    assert run("spool", "status", *options) == 3
    [refused] = json.loads(capsys.readouterr().out)["refused"]
    assert "9, recorded 1" in refused["reason"]
    assert run("spool", "status", *options[:-1]) == 3
    assert "refused by the database: 1" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["status", "drain"])
def test_a_folder_that_does_not_exist_is_no_empty_spool(
    command: str, live: Serving, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--uri", live.uri.url, "--spool", str(tmp_path / "misspelt")]
    assert run("spool", command, *options) == 2
    assert "does not exist" in capsys.readouterr().err


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    return int(exit_.value.code or 0)


def test_without_a_spool_an_outage_is_an_error(
    serving: Callable[..., Serving], switch: Switch
) -> None:
    live = serving(spool=False)
    with switch.away(), pytest.raises(db.ConnectionFailed):
        record(live, 1)


def test_what_the_database_refuses_is_an_error_and_no_outage(live: Serving) -> None:
    record(live, 1)
    with pytest.raises(Contradiction):
        live.record("A", output=2.0, request_id="1")
    assert live._outbox.spool is not None
    assert live._outbox.spool.is_empty()


def by_its_server(uri: DatabaseURI) -> DatabaseURI:
    """An embedded database without the option that would make a missing one."""
    if uri.embedded is None:
        return uri
    reached = keywords(uri)
    return DatabaseURI(uri.dbname, str(reached["user"]), "", str(reached["host"]))


def test_a_database_that_never_existed_is_an_error(live: Serving, tmp_path: Path) -> None:
    wrong = replace(by_its_server(live.uri), dbname="nowhere")
    with pytest.raises(db.ConnectionFailed, match="does not exist"):
        Serving(wrong, "s", spool=tmp_path / "other").record("A", output=1.0)


def test_an_outage_is_one_line_in_the_log(
    live: Serving, switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), switch.away():
        for number in range(5):
            record(live, number)
    [warning] = [entry for entry in caplog.records if entry.name.endswith("outbox")]
    assert "requests wait in" in warning.getMessage()


def test_a_child_of_fork_records_with_its_own_connections(live: Serving, switch: Switch) -> None:
    record(live, 0)
    with switch.away():
        record(live, 1)
        child = os.fork()
        if child == 0:
            record(live, 2)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    wait_until_empty(live._outbox.spool)
    record(live, 3)
    assert outputs(live) == [0.0, 1.0, 2.0, 3.0]


def test_a_server_that_answers_nothing_is_away(serving: Callable[..., Serving]) -> None:
    """The table is locked, as by a server that hangs: the call gives up, and arrives once."""
    live = serving(patience=0.5)
    record(live, 0)
    with live.database.connection() as conn, conn.transaction():
        conn.execute("LOCK TABLE mlops.requests IN ACCESS EXCLUSIVE MODE")
        assert record(live, 1).is_spooled
        assert record(live, 2).is_spooled
    wait_until_empty(live._outbox.spool)
    assert outputs(live) == [0.0, 1.0, 2.0]


WRITER = """
import sys
from datetime import datetime, timedelta, timezone
from drift import Serving
uri, strategy, spool, first = sys.argv[1:5]
live = Serving(uri, strategy, spool=spool)
start = datetime(2024, 4, 18, 14, tzinfo=timezone.utc)
for number in range(int(first), int(first) + 100_000):
    live.record("A", output=float(number), features={"x": number}, request_id=str(number),
        as_of=start + timedelta(milliseconds=number))
    print(number, flush=True)
"""
DRAIN = "import sys; from mlflow_timescale.cli import main; main(sys.argv[1:])"


@pytest.mark.slow
def test_kill_at_any_moment_loses_nothing_and_doubles_nothing(
    live: Serving, switch: Switch, tmp_path: Path
) -> None:
    """Writers, drains and the database are ended at random moments."""
    generator = random.Random(int(os.environ.get("SEED", "1")))
    folder = tmp_path / "killed"
    acknowledged: list[int] = []
    for number in range(8):
        switch.set(on=number % 3 != 1)
        writer = start(WRITER, live.uri.url, live.strategy, str(folder), str(number * 100_000))
        drain = start(DRAIN, "spool", "drain", "--uri", live.uri.url, "--spool", str(folder))
        assert writer.stdout is not None
        writer.stdout.readline()  # it has begun
        for _ in range(generator.randrange(3)):
            time.sleep(generator.random() * 0.4)
            switch.set(on=generator.random() < 0.5)
        time.sleep(generator.random() * 0.5)
        drain.kill()
        writer.kill()
        text, _ = writer.communicate()
        drain.communicate()
        acknowledged += [number * 100_000, *map(int, text.split()[: text.count("\n")])]
    switch.set(on=True)
    spool = Spool(folder)
    live._outbox.spool = spool
    live.drain()
    status = spool.status()
    assert (status.waiting, status.refused, status.damaged, status.dropped) == (0, [], [], 0)
    recorded = [int(output) for output in outputs(live)]
    assert len(set(recorded)) == len(recorded)
    assert set(acknowledged) <= set(recorded)
    assert len(set(recorded) - set(acknowledged)) <= 8  # killed before the answer was printed
    assert recorded == sorted(recorded)


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[3],
    )
