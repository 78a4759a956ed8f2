"""What a drain inserts for many runs at once is what MLflow's calls would have left."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from mlflow.entities import Metric, Param, RunTag
from mlflow.utils.workspace_context import WorkspaceContext

from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.spool import Record, Refusal, Sender
from mlflow_timescale.tracking import spooled
from mlflow_timescale.tracking.store import (
    TimescaleTrackingStore,
    WorkspaceAwareTimescaleTrackingStore,
)

POINTS = (
    "SELECT key, step, timestamp, value, is_nan FROM {} WHERE run_uuid = %s ORDER BY 1, 2, 3, 4, 5"
)
KEYS = ["ic", "loss", "val/loss", "données", "k" * 250]
VALUES = [0.0, -0.0, 1.5, math.nan, math.inf, -math.inf, 1e-300]


@pytest.fixture(scope="module")
def uri(new_database: Callable[..., AbstractContextManager[DatabaseURI]]) -> Iterator[DatabaseURI]:
    with new_database() as uri:
        yield uri


@pytest.fixture(scope="module")
def store(uri: DatabaseURI) -> TimescaleTrackingStore:
    return TimescaleTrackingStore(uri.url, "timescaledb-artifacts:/")


@pytest.fixture(scope="module")
def sender(uri: DatabaseURI) -> Sender:
    return spooled.sender_of(uri)


def create(store: TimescaleTrackingStore) -> str:
    return str(store.create_run("0", "ann", 1, [], "run").info.run_id)


def rows(uri: DatabaseURI, run_id: str, table: str) -> list[Any]:
    with db.connect(uri) as conn:
        return conn.execute(POINTS.format(table).encode(), [run_id]).fetchall()


def content(uri: DatabaseURI, run_id: str) -> list[list[Any]]:
    return [rows(uri, run_id, table) for table in ("metrics", "latest_metrics")]


def record(run_id: str, *metrics: Metric, **others: Any) -> Record:
    return spooled.to_record(
        spooled.log_batch(
            run_id, metrics, others.get("params", []), others.get("tags", []), others.get("at")
        )
    )


def random_calls(seed: int, runs: int) -> list[tuple[int, list[Metric]]]:
    """Calls for some runs, with many equal points, steps and times."""
    generator = random.Random(seed)

    def metric() -> Metric:
        key, value = generator.choice(KEYS), generator.choice(VALUES)
        return Metric(key, value, generator.randrange(3), generator.randrange(-2, 3))

    return [
        (generator.randrange(runs), [metric() for _ in range(generator.randrange(1, 6))])
        for _ in range(60)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_points_and_latest_metrics_are_those_of_the_calls(
    uri: DatabaseURI, store: TimescaleTrackingStore, sender: Sender, seed: int
) -> None:
    """Sent in three batches, the second with points that are there already."""
    calls = random_calls(seed, runs=3)
    drained, direct = ([create(store) for _ in range(3)] for _ in range(2))
    records = [record(drained[number], *metrics) for number, metrics in calls]
    for part in (records[:30], records[20:50], records[50:]):
        assert sender.many(part) == len(part)
    for number, metrics in calls:
        store.log_batch(direct[number], metrics, [], [])
    for mine, mlflows in zip(drained, direct, strict=True):
        assert content(uri, mine) == content(uri, mlflows)


def test_ranges_and_marks_follow_a_drain(store: TimescaleTrackingStore, sender: Sender) -> None:
    run_id = create(store)
    sender.many([record(run_id, Metric("ic", float(n), 10**12 + n, n)) for n in range(1000)])
    assert [m.step for m in store.get_metric_history(run_id, "ic", 3, None)] == [0, 1, 2]
    sample = store.get_metric_history_bulk_interval([run_id], "ic", 10, None, None)
    assert [m.step for m in sample][0::9] == [0, 999]


def test_a_refused_call_keeps_no_other_one_away(
    uri: DatabaseURI, store: TimescaleTrackingStore, sender: Sender
) -> None:
    run_id, deleted = create(store), create(store)
    store.delete_run(deleted)
    good = record(run_id, Metric("ic", 1.0, 1, 1))
    with pytest.raises(Refusal, match="must be in the 'active' state"):
        sender.many([good, record(deleted, Metric("ic", 1.0, 1, 1))])
    assert content(uri, run_id) == [[], []]
    assert sender.many([good]) == 1
    assert len(content(uri, run_id)[0]) == 1


def test_a_repeated_batch_has_no_second_effect(
    uri: DatabaseURI, store: TimescaleTrackingStore, sender: Sender
) -> None:
    run_id = create(store)
    tagged = record(
        run_id, Metric("ic", 1.0, 1, 1), tags=[RunTag("a", "b")], params=[Param("p", "1")]
    )
    batch = [tagged, record(run_id, Metric("ic", 2.0, 2, 2))]
    sender.many(batch)
    store.set_tag(run_id, RunTag("a", "later"))
    before = content(uri, run_id)
    assert sender.many(batch) == 1  # of points, an effect is not counted
    assert content(uri, run_id) == before
    assert store.get_run(run_id).data.tags["a"] == "later"


def test_calls_of_several_workspaces_go_each_into_its_own(
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    with new_database() as uri:
        aware = WorkspaceAwareTimescaleTrackingStore(uri.url, "timescaledb-artifacts:/")
        runs = {}
        for workspace in ("desk", "lab"):
            with WorkspaceContext(workspace):
                experiment = aware.create_experiment("signals")
                runs[workspace] = aware.create_run(experiment, "ann", 1, [], "r").info.run_id
        of_both = [
            record(run_id, Metric("ic", 1.0, step, step), at=workspace)
            for step in range(3)
            for workspace, run_id in runs.items()
        ]
        monkeypatch.delenv("MLFLOW_ENABLE_WORKSPACES")  # as in a cron job
        sender = spooled.sender_of(uri)
        assert sender.many(of_both) == 6
        assert [len(content(uri, run_id)[0]) for run_id in runs.values()] == [3, 3]
        with pytest.raises(Refusal, match="not found"):
            sender.many([record(runs["desk"], Metric("ic", 1.0, 9, 9), at="lab")])
