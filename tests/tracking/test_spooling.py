"""An outage stops no run: writes wait on the disk, are read from there, and arrive once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from support.spools import wait_until_empty

from benchmarks.databases import Switch
from mlflow_timescale import schema
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.tracking.opening import open_store
from mlflow_timescale.tracking.spooling import SpoolingTracking
from mlflow_timescale.tracking.store import TimescaleTrackingStore

Opening = Callable[[], SpoolingTracking]


@pytest.fixture
def plain(shared_database: DatabaseURI) -> TimescaleTrackingStore:
    return TimescaleTrackingStore(shared_database.url, "timescaledb-artifacts:/")


@pytest.fixture
def opening(uri: str) -> Iterator[Opening]:
    """Opens stores as processes do."""
    opened: list[SpoolingTracking] = []

    def open_() -> SpoolingTracking:
        store = open_store(uri, "timescaledb-artifacts:/", None, False)
        assert isinstance(store, SpoolingTracking)
        opened.append(store)
        return store

    yield open_
    for store in opened:
        store._outbox.close()


@pytest.fixture
def store(opening: Opening) -> SpoolingTracking:
    return opening()


def create(store: SpoolingTracking, name: str = "run") -> str:
    return str(store.create_run("0", "ann", 1, [RunTag("a", "b")], name).info.run_id)


def wait_until_sent(store: SpoolingTracking) -> None:
    wait_until_empty(store._outbox.spool)


def log_all(store: SpoolingTracking, run_id: str) -> None:
    """Every kind of write to a run."""
    store.log_metric(run_id, Metric("loss", 0.5, 1000, 1))
    store.log_batch(
        run_id,
        [Metric("loss", 0.25, 2000, 2), Metric("acc", float("nan"), 2000, 2)],
        [Param("lr", "0.1")],
        [RunTag("phase", "one")],
    )
    store.log_param(run_id, Param("depth", "6"))
    store.set_tag(run_id, RunTag("phase", "two"))
    store.set_tag(run_id, RunTag("gone", "1"))
    store.delete_tag(run_id, "gone")
    store.update_run_info(run_id, 3, 5000, "renamed")


def content(run: Run) -> tuple[object, ...]:
    metrics = {m.key: (str(m.value), m.step, m.timestamp) for m in run.data._metric_objs}
    info = (run.info.run_name, run.info.status, run.info.end_time, run.info.artifact_uri)
    return metrics, dict(run.data.params), dict(run.data.tags), info


@pytest.mark.slow
def test_a_run_of_an_outage_is_the_run_that_it_would_have_been(
    store: SpoolingTracking, plain: TimescaleTrackingStore, switch: Switch
) -> None:
    direct = create(store)
    log_all(store, direct)
    with switch.away():
        run_id = create(store)
        log_all(store, run_id)
        assert not store._outbox.spool.is_empty()
        read = store.get_run(run_id)
    wait_until_sent(store)
    stored = plain.get_run(run_id)
    assert content(read) == content(stored)
    assert content(stored)[:3] == content(plain.get_run(direct))[:3]
    assert [m.value for m in plain.get_metric_history(run_id, "loss")] == [0.5, 0.25]


def test_a_run_goes_on_through_an_outage(
    store: SpoolingTracking, plain: TimescaleTrackingStore, switch: Switch
) -> None:
    run_id = create(store)
    store.log_metric(run_id, Metric("loss", 1.0, 1, 1))
    with switch.away():
        store.log_metric(run_id, Metric("loss", 0.5, 2, 2))
        assert store.get_run(run_id).data.metrics["loss"] == 0.5
        assert store.get_run(run_id).info.artifact_uri
        assert [m.step for m in store.get_metric_history(run_id, "loss")] == [1, 2]
    assert [m.step for m in store.get_metric_history(run_id, "loss")] == [1, 2]
    store.log_metric(run_id, Metric("loss", 0.2, 3, 3))
    assert store.get_run(run_id).data.metrics["loss"] == 0.2
    wait_until_sent(store)
    assert [m.step for m in plain.get_metric_history(run_id, "loss")] == [1, 2, 3]
    assert content(store.get_run(run_id)) == content(plain.get_run(run_id))


def test_reads_of_a_run_in_an_outage_have_what_was_sent_before_it(
    opening: Opening, store: SpoolingTracking, switch: Switch
) -> None:
    run_id = create(store)
    log_all(store, run_id)
    before, resumed = store.get_run(run_id), opening()
    with switch.away():
        assert content(store.get_run(run_id)) == content(before)
        assert [m.value for m in store.get_metric_history(run_id, "loss")] == [0.5, 0.25]
        with pytest.raises(MlflowException, match="the database is away"):
            resumed.get_metric_history(run_id, "loss")
    resumed.get_run(run_id)
    with switch.away():
        resumed.log_metric(run_id, Metric("loss", 0.1, 9000, 9))
        assert content(resumed.get_run(run_id))[0]["loss"] == ("0.1", 9, 9000)
        assert [m.step for m in resumed.get_metric_history(run_id, "loss")] == [9]
    wait_until_sent(store)


def test_pages_of_a_history_include_what_waits(store: SpoolingTracking, switch: Switch) -> None:
    with switch.away():
        run_id = create(store)
        for step in range(5):
            store.log_metric(run_id, Metric("loss", float(step), step, step))
        steps, token = [], None
        while page := store.get_metric_history(run_id, "loss", 2, token):
            steps.append([m.step for m in page])
            if (token := page.token) is None:
                break
    assert steps == [[0, 1], [2, 3], [4]]


def test_a_process_can_start_in_an_outage(
    opening: Opening, plain: TimescaleTrackingStore, switch: Switch
) -> None:
    opening().create_experiment("known")
    with switch.away():
        store = opening()
        experiment = store.get_experiment_by_name("known")
        assert experiment is not None
        run = store.create_run(experiment.experiment_id, "ann", 1, [], "offline")
        store.log_metric(run.info.run_id, Metric("loss", 0.5, 1, 1))
    wait_until_sent(store)
    stored = plain.get_run(run.info.run_id)
    assert stored.data.metrics == {"loss": 0.5}
    assert stored.info.artifact_uri == run.info.artifact_uri
    assert store.search_runs([experiment.experiment_id], "", 1)[0].info.run_id == run.info.run_id


def test_a_process_can_start_while_the_database_goes_away(
    opening: Opening, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening().get_experiment("0")
    schema.prepare.cache_clear()
    monkeypatch.setattr(schema, "wait_for", lambda *_: switch.set(on=False))
    assert create(opening())


def test_what_cannot_wait_is_one_clear_line(opening: Opening, switch: Switch) -> None:
    with switch.away():
        store = opening()
        for call, named in (
            (lambda: store.create_experiment("new"), "a new experiment ('new')"),
            (lambda: store.get_experiment_by_name("new"), "has not seen the experiment 'new'"),
            (lambda: store.create_run("77", "ann", 1, [], "r"), "has not seen the experiment 77"),
            (lambda: store.search_runs(["0"], "", 1), "cannot connect"),
        ):
            with pytest.raises(MlflowException) as failure:
                call()
            assert named in failure.value.message
            assert "\n" not in failure.value.message
            assert failure.value.error_code == "TEMPORARILY_UNAVAILABLE"


def test_a_call_that_cannot_wait_logs_no_traceback(
    store: SpoolingTracking, switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    with switch.away():
        for call in (
            lambda: store.search_runs(["0"], "", 1),
            lambda: store.create_experiment("new"),
        ):
            with pytest.raises(MlflowException, match="cannot wait in the spool") as failure:
                call()
            assert failure.value.message.count("the database is away") == 1
    assert "mlflow.store.db.utils" not in {record.name for record in caplog.records}


def test_what_mlflow_refuses_is_refused_at_once(store: SpoolingTracking, switch: Switch) -> None:
    run_id = create(store)
    store.log_param(run_id, Param("lr", "1"))
    with pytest.raises(MlflowException, match="Changing param values"):
        store.log_param(run_id, Param("lr", "2"))
    with switch.away(), pytest.raises(MlflowException, match="many"):
        store.log_metric(run_id, Metric("loss", "many", 1, 1))
    assert store._outbox.spool.is_empty()


def test_what_the_database_refuses_later_blocks_nothing(
    store: SpoolingTracking, plain: TimescaleTrackingStore, switch: Switch
) -> None:
    deleted, run_id = create(store), create(store)
    store.log_param(run_id, Param("lr", "1"))
    plain.delete_run(deleted)
    with switch.away():
        store.log_param(run_id, Param("lr", "2"))
        store.log_metric(deleted, Metric("loss", 1.0, 1, 1))
        store.log_metric(run_id, Metric("loss", 1.0, 1, 1))
    wait_until_sent(store)
    refused = [entry.reason for entry in store._outbox.spool.status().refused]
    assert len(refused) == 2
    assert "Changing param values" in refused[0]
    assert "must be in the 'active' state" in refused[1]
    assert plain.get_run(run_id).data.metrics == {"loss": 1.0}


@pytest.mark.slow
def test_a_write_that_hangs_is_spooled_and_has_no_effect_later(
    shared_database: DatabaseURI, uri: str, plain: TimescaleTrackingStore
) -> None:
    """A lock holds the tag's write; the tag is set twice meanwhile, and the last value stays."""
    from mlflow_timescale import db

    store = open_store(f"{uri}&spool_patience=0.5", "timescaledb-artifacts:/", None, False)
    assert isinstance(store, SpoolingTracking)
    run_id = create(store)
    with db.connect(shared_database) as conn:
        conn.execute("LOCK TABLE tags IN ACCESS EXCLUSIVE MODE")
        store.set_tag(run_id, RunTag("phase", "one"))
        store.set_tag(run_id, RunTag("phase", "two"))
        assert len(list(store._outbox.spool.waiting())) == 2
        conn.rollback()
    wait_until_sent(store)
    time.sleep(0.3)
    assert plain.get_run(run_id).data.tags["phase"] == "two"
    store._outbox.close()


def test_the_next_process_sends_what_an_earlier_one_left(
    opening: Opening, plain: TimescaleTrackingStore, switch: Switch
) -> None:
    first = opening()
    with switch.away():
        run_id = create(first)
        first._outbox.close()
    second = opening()
    second.log_metric(run_id, Metric("loss", 1.0, 1, 1))
    wait_until_sent(second)
    assert plain.get_run(run_id).data.metrics == {"loss": 1.0}


def test_a_child_of_fork_goes_on_with_the_run(
    store: SpoolingTracking, plain: TimescaleTrackingStore, switch: Switch
) -> None:
    run_id = create(store)
    with switch.away():
        store.log_metric(run_id, Metric("loss", 1.0, 1, 1))
        child = os.fork()
        if child == 0:
            store.log_metric(run_id, Metric("loss", 2.0, 2, 2))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        store.log_metric(run_id, Metric("loss", 3.0, 3, 3))
    wait_until_sent(store)
    assert [m.value for m in plain.get_metric_history(run_id, "loss")] == [1.0, 2.0, 3.0]


@pytest.mark.slow
def test_a_full_spool_drops_points_and_counts_them(
    uri: str, plain: TimescaleTrackingStore, switch: Switch
) -> None:
    opened = open_store(f"{uri}&spool_limit=1", "timescaledb-artifacts:/", None, False)
    assert isinstance(opened, SpoolingTracking)
    opened._outbox.spool.limit = 20_000
    opened._outbox.spool._segment_bytes = 2_500
    with switch.away():
        run_id = create(opened)
        for step in range(200):
            opened.log_metric(run_id, Metric("loss", 1.0, step, step))
        opened.update_run_info(run_id, 3, 5, None)
        dropped = opened._outbox.spool.status().dropped
    wait_until_sent(opened)
    assert 0 < dropped < 200
    run = plain.get_run(run_id)
    steps = [m.step for m in plain.get_metric_history(run_id, "loss")]
    assert run.info.status == "FINISHED"
    assert steps == list(range(dropped, 200))
    opened._outbox.close()


@pytest.mark.slow
def test_the_history_of_logged_models_waits(
    store: SpoolingTracking, plain: TimescaleTrackingStore, switch: Switch
) -> None:
    """What Spark's flavors call."""
    models = [Model(artifact_path=name, flavors={"python_function": {"a": 1}}) for name in "abc"]
    direct, run_id = create(store), create(store)
    for model in models:
        store.record_logged_model(direct, model)
    store.record_logged_model(run_id, models[0])
    with switch.away():
        store.record_logged_model(run_id, models[1])
        store.record_logged_model(run_id, models[2])
    wait_until_sent(store)
    tags = [plain.get_run(each).data.tags["mlflow.log-model.history"] for each in (direct, run_id)]
    assert tags[0] == tags[1]


TRAINER = """
import sys
from mlflow.entities import Metric, RunTag
from mlflow_timescale.tracking.opening import open_store
store = open_store(sys.argv[1], "timescaledb-artifacts:/", None, False)
run_id = store.create_run("0", "ann", 1, [], sys.argv[2]).info.run_id
print(run_id, flush=True)
for step in range(100_000):
    store.log_metric(run_id, Metric("loss", float(step), step, step))
    store.set_tag(run_id, RunTag("step", str(step)))
    print(step, flush=True)
"""
DRAIN = "import sys; from mlflow_timescale.cli import main; main(sys.argv[1:])"


@pytest.mark.slow
def test_kill_at_any_moment_loses_nothing_and_doubles_nothing(
    uri: str, opening: Opening, plain: TimescaleTrackingStore, switch: Switch
) -> None:
    """Trainers, drains and the database are ended at random moments."""
    generator = random.Random(int(os.environ.get("SEED", "1")))
    opening()  # the spool has seen the experiment
    acknowledged: dict[str, int] = {}
    for number in range(6):
        switch.set(on=number % 3 != 1)
        trainer = start(TRAINER, uri, str(number))
        drain = start(DRAIN, "spool", "drain", "--uri", uri)
        assert trainer.stdout is not None
        run_id = trainer.stdout.readline().strip()
        for _ in range(generator.randrange(1, 4)):
            time.sleep(generator.random() * 0.5)
            switch.set(on=generator.random() < 0.5)
        time.sleep(generator.random() * 0.5)
        drain.kill()
        trainer.kill()
        text, _ = trainer.communicate()
        drain.communicate()
        steps = [int(line) for line in text.split()[: text.count("\n")]]
        assert run_id
        acknowledged[run_id] = steps[-1] if steps else -1
    switch.set(on=True)
    last = opening()
    wait_until_sent(last)
    status = last._outbox.spool.status()
    assert (status.refused, status.damaged, status.dropped) == ([], [], 0)
    for run_id, step in acknowledged.items():
        steps = [metric.step for metric in plain.get_metric_history(run_id, "loss")]
        assert steps == list(range(len(steps)))
        assert len(steps) - 1 in (step, step + 1)  # killed before the answer was printed
        assert int(plain.get_run(run_id).data.tags.get("step", "-1")) in (step, step + 1)


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[2],
    )
