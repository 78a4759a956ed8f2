"""What plain MLflow wrote is the same for its client before and after each conversion."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import vanilla_url
from mlflow.entities import Metric
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from support.plain_mlflow import answers, fill

from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.adopt import adopt, layout, release

pytestmark = pytest.mark.slow

# Above this number of points `migrate` leaves the table alone, and a rebuild is needed.
MANY = 10_000
PROGRAM = str(Path(sys.executable).with_name("mlflow-timescale"))


def add_points(uri: DatabaseURI, run_id: str) -> None:
    with db.connect(uri, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan)"
            " SELECT %s, 'long', i, 1600000000000 + i * 60000000, i, false"
            " FROM generate_series(1, %s::bigint) i",
            [run_id, MANY],
        )
        conn.execute(
            "INSERT INTO latest_metrics (run_uuid, key, value, timestamp, step, is_nan)"
            " SELECT run_uuid, key, value, timestamp, step, is_nan FROM metrics"
            " WHERE run_uuid = %s AND key = 'long' AND step = %s",
            [run_id, MANY],
        )


def assert_converts_without_a_difference(uri: DatabaseURI, runs: int) -> None:
    plain = vanilla_url(uri)
    ids = fill(plain, runs)
    add_points(uri, ids[4])
    before = answers(plain)
    with db.connect(uri, autocommit=True) as conn:
        for convert in (adopt, release, adopt):
            convert(conn)
            is_adopted = convert is adopt
            assert layout(conn).ours is is_adopted
            for url in [plain, uri.url] if is_adopted else [plain]:
                assert answers(url) == before, (convert.__name__, url)


def test_every_entity_is_the_same_after_adopting_releasing_and_adopting(
    vanilla_database: DatabaseURI,
) -> None:
    assert_converts_without_a_difference(vanilla_database, runs=40)


@pytest.mark.slow
def test_every_entity_of_four_hundred_runs_is_the_same(vanilla_database: DatabaseURI) -> None:
    assert_converts_without_a_difference(vanilla_database, runs=400)


def test_runs_without_points_are_adopted_beside_runs_with_points(
    vanilla_database: DatabaseURI,
) -> None:
    store = SqlAlchemyStore(vanilla_url(vanilla_database), "/artifacts")
    ids = [store.create_run("0", "me", 1, [], f"{i}").info.run_id for i in range(20)]
    add_points(vanilla_database, ids[7])
    with db.connect(vanilla_database, autocommit=True) as conn:
        adopt(conn)
        ranges = conn.execute("SELECT run_uuid FROM mlops.run_ranges").fetchall()
        assert ranges == [(ids[7],)]
        marks = conn.execute("SELECT count(*) FROM mlops.metric_marks").fetchone()
        assert marks == ((MANY - 1) // 128,)
        release(conn)


class Killed:
    """A conversion in a process of its own, killed at random moments until one gets to its end."""

    def __init__(self, uri: DatabaseURI, kills: int) -> None:
        self.uri, self.left, self.random = uri, kills, random.Random(7)

    def run(self, command: str) -> None:
        while True:
            process = subprocess.Popen(
                [PROGRAM, command, "--uri", self.uri.url],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=os.environ,
            )
            if self.left:
                self.left -= 1
                time.sleep(self.random.uniform(1.0, 6.0))
                process.send_signal(signal.SIGKILL)
            _, errors = process.communicate(timeout=300)
            if process.returncode != -signal.SIGKILL:
                assert process.returncode == 0, errors
                return


def assert_survives_kills(uri: DatabaseURI, runs: int, kills: int) -> None:
    plain = vanilla_url(uri)
    ids = fill(plain, runs)
    add_points(uri, ids[4])
    before = answers(plain)
    store = SqlAlchemyStore(plain, "/artifacts")
    beside = store.create_run("0", "me", 1, [], "beside").info.run_id
    logged: list[int] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            store.log_metric(beside, Metric("m", 1.0, 1_700_000_000_000, len(logged)))
            logged.append(1)
            time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for command in ("adopt", "release"):
            Killed(uri, kills).run(command)
    finally:
        stop.set()
        writer.join()
    assert len(store.get_metric_history(beside, "m")) == len(logged) > 0
    store.delete_run(beside)
    store._hard_delete_run(beside)
    after: dict[str, Any] = answers(plain)
    assert after == before


@pytest.mark.slow
def test_conversions_that_are_killed_lose_nothing_with_a_writer_beside(
    vanilla_database: DatabaseURI,
) -> None:
    assert_survives_kills(vanilla_database, runs=100, kills=6)
