"""No client waits long while a database is converted, and nothing deadlocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from conftest import vanilla_url
from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from mlflow_timescale import db
from mlflow_timescale.db.locks import LocksHeld, with_short_waits
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.adopt import abort, adopt, is_begun, layout, release
from mlflow_timescale.tracking.store import TimescaleTrackingStore

pytestmark = pytest.mark.slow

LONGEST_WAIT = 2.0
READER_SECONDS = 4.0


class Writer(threading.Thread):
    """Logs to a run of its own until it is stopped, and counts its calls."""

    def __init__(self, store: SqlAlchemyStore, number: int) -> None:
        super().__init__(daemon=True)
        self.store = store
        self.run_id = store.create_run("0", "me", 1, [], f"writer {number}").info.run_id
        self.calls = 0
        self.failure: Exception | None = None
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.is_set():
            step = self.calls
            try:
                self.store.log_batch(
                    self.run_id,
                    [Metric("m", float(step), 1_700_000_000_000 + step, step)],
                    [Param(f"p{step}", "1")],
                    [RunTag("step", str(step))],
                )
                # Changes the row of the run: another order of locks.
                self.store.update_run_info(self.run_id, RunStatus.RUNNING, None, f"step {step}")
            except Exception as exc:
                self.failure = exc
                return
            self.calls += 1
            self.stopped.wait(0.02)


class Waits(threading.Thread):
    """Looks, until it is stopped, how long sessions other than one wait for locks."""

    QUERY = (
        "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - waitstart)), 0)::float8"
        " FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE NOT granted AND datname = current_database() AND pid <> %s"
    )

    def __init__(self, uri: DatabaseURI, converting: int) -> None:
        super().__init__(daemon=True)
        self.uri, self.converting = uri, converting
        self.longest = 0.0
        self.stopped = threading.Event()

    def run(self) -> None:
        with db.connect(self.uri, autocommit=True) as conn:
            while not self.stopped.wait(0.02):
                [wait] = conn.execute(self.QUERY, [self.converting]).fetchone() or (0.0,)
                self.longest = max(self.longest, wait)


@contextmanager
def reading(uri: DatabaseURI, seconds: float) -> Iterator[None]:
    """A transaction that has read `metrics` and stays open, as that of pg_dump does."""
    with db.connect(uri) as reader:
        reader.execute("SELECT count(*) FROM metrics")
        timer = threading.Timer(seconds, reader.rollback)
        timer.start()
        yield
        timer.join()


@pytest.fixture
def filled(vanilla_database: DatabaseURI) -> DatabaseURI:
    store = SqlAlchemyStore(vanilla_url(vanilla_database), "/artifacts")
    run = store.create_run("0", "me", 1, [], "run").info.run_id
    with db.connect(vanilla_database, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan)"
            " SELECT %s, 'long', i, 1600000000000 + i, i, false"
            " FROM generate_series(1, 20000) i",
            [run],
        )
    return vanilla_database


def convert_beside(
    uri: DatabaseURI, convert: Callable[[db.Connection], None], writers: list[Writer]
) -> None:
    """Convert beside writers and a reader that ends after some seconds."""
    for writer in writers:
        writer.start()
    time.sleep(1.0)
    began = time.monotonic()
    with reading(uri, READER_SECONDS), db.connect(uri, autocommit=True) as conn:
        waits = Waits(uri, conn.info.backend_pid)
        waits.start()
        convert(conn)
        assert time.monotonic() - began >= READER_SECONDS  # it did wait for the reader
    for thread in (waits, *writers):
        thread.stopped.set()
        thread.join()
    assert 0 < waits.longest < LONGEST_WAIT


def test_an_adoption_behind_a_reader_holds_up_no_writer(filled: DatabaseURI) -> None:
    plain = SqlAlchemyStore(vanilla_url(filled), "/artifacts")
    writers = [Writer(plain, number) for number in range(8)]
    convert_beside(filled, adopt, writers)
    for writer in writers:
        assert writer.failure is None, writer.failure
        history = plain.get_metric_history(writer.run_id, "m")
        assert len(history) == writer.calls > 0
    with db.connect(filled, autocommit=True) as conn:
        assert layout(conn).ours
        # A point that was written at any moment is within the range of its run.
        outside = conn.execute(
            "SELECT count(*) FROM metrics LEFT JOIN mlops.run_ranges AS range"
            " ON range.run_uuid = metrics.run_uuid AND timestamp BETWEEN first_ms AND last_ms"
            " WHERE range.run_uuid IS NULL"
        ).fetchone()
    assert outside == (0,)


def test_a_release_behind_a_reader_holds_up_no_writer(filled: DatabaseURI) -> None:
    with db.connect(filled, autocommit=True) as conn:
        adopt(conn)
    plain = SqlAlchemyStore(vanilla_url(filled), "/artifacts")
    ours = TimescaleTrackingStore(filled.url, "/artifacts")
    writers = [Writer(ours if number % 2 else plain, number) for number in range(8)]
    convert_beside(filled, release, writers)
    for writer in writers:
        if writer.failure is not None:
            assert writer.store is ours
            assert isinstance(writer.failure, MlflowException)
            assert "was released to plain MLflow" in writer.failure.message
        history = plain.get_metric_history(writer.run_id, "m")
        assert len(history) >= writer.calls > 0


def test_the_session_that_keeps_a_lock_is_named(filled: DatabaseURI) -> None:
    with db.connect(filled) as holder, db.connect(filled, autocommit=True) as conn:
        holder.execute("LOCK TABLE latest_metrics IN ROW EXCLUSIVE MODE")
        pid = holder.info.backend_pid
        with pytest.raises(LocksHeld, match=rf"process {pid} \(mlflow-timescale"):
            with_short_waits(conn, lambda: conn.execute("LOCK TABLE latest_metrics"), patience=0.5)
        holder.rollback()
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_conversion_that_was_interrupted_can_be_given_up(
    filled: DatabaseURI,
) -> None:
    plain = SqlAlchemyStore(vanilla_url(filled), "/artifacts")
    run = plain.create_run("0", "me", 1, [], "later").info.run_id

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with db.connect(filled, autocommit=True) as conn:
        for convert, undone in ((adopt, False), (release, True)):
            if convert is release:
                adopt(conn)
            with pytest.raises(KeyboardInterrupt):
                convert(conn, progress=interrupt)
            assert is_begun(conn)
            assert abort(conn)
            assert not is_begun(conn)
            assert not abort(conn)
            assert layout(conn).ours is undone
            left = conn.execute(
                "SELECT to_regclass('mlops.metrics_next'), to_regclass('mlops.metrics_copied'),"
                " to_regproc('mlops.copy_to_next')"
            ).fetchone()
            assert left == (None, None, None)
            plain.log_metric(run, Metric("m", 1.0, 1, int(undone)))
    assert len(plain.get_metric_history(run, "m")) == 2
