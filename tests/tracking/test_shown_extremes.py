"""Extremes as metrics of MLflow: `loss/min` and `loss/max`, where they are switched on."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import psycopg
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import Metric, ViewType
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from support.logins import Logins

import mlflow_timescale
from benchmarks.databases import vanilla_url
from mlflow_timescale import db
from mlflow_timescale.cli import cli
from mlflow_timescale.db.rights import ADMIN, READER, WRITER
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations import extremes
from mlflow_timescale.operations.adopt import adopt, release
from mlflow_timescale.operations.bringing.merging import merge_from
from mlflow_timescale.operations.extremes import ExtremesSetting, settings, switch
from mlflow_timescale.operations.importing import import_from
from mlflow_timescale.tracking.store import TimescaleTrackingStore


@pytest.fixture(scope="module")
def store(shared_database: DatabaseURI) -> TimescaleTrackingStore:
    return TimescaleTrackingStore(shared_database.url, "/artifacts")


@pytest.fixture(scope="module")
def conn(shared_database: DatabaseURI) -> Iterator[psycopg.Connection]:
    with db.connect(shared_database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def experiment(store: TimescaleTrackingStore, conn: psycopg.Connection) -> Iterator[str]:
    name = f"experiment {random.random()}"
    store.create_experiment(name)
    yield name
    switch(conn, on=False)


def new_run(store: SqlAlchemyStore, experiment: str, *values: float, key: str = "loss") -> str:
    """A run with one series of these values, one a step."""
    number = store.get_experiment_by_name(experiment).experiment_id
    run_id: str = store.create_run(number, "me", 1, [], "run").info.run_id
    log(store, run_id, *values, key=key)
    return run_id


def log(
    store: SqlAlchemyStore, run: str, *values: float, key: str = "loss", first_step: int = 0
) -> None:
    points = [
        Metric(key, value, 1_000 + step, step) for step, value in enumerate(values, first_step)
    ]
    store.log_batch(run, points, [], [])


def shown(store: SqlAlchemyStore, run: str) -> dict[str, tuple[float, int]]:
    """The value and step of each metric that MLflow shows of a run."""
    return {m.key: (m.value, m.step) for m in store.get_run(run).data._metric_objs}


def test_runs_of_before_and_after_have_them_and_they_follow_every_point(
    store: TimescaleTrackingStore, conn: psycopg.Connection, experiment: str
) -> None:
    before = new_run(store, experiment, 3.0, 1.0, 2.0, 1.0)
    assert switch(conn, on=True, experiment=experiment, dry_run=True).metrics == 2
    assert set(shown(store, before)) == {"loss"}
    assert switch(conn, on=True, experiment=experiment).metrics == 2
    assert shown(store, before) == {"loss": (1.0, 3), "loss/min": (1.0, 1), "loss/max": (3.0, 0)}
    after = new_run(store, experiment, 5.0)
    assert shown(store, after) == {"loss": (5.0, 0), "loss/min": (5.0, 0), "loss/max": (5.0, 0)}
    log(store, after, math.nan, 7.0, 4.0, 7.0, first_step=1)
    log(store, after, 4.0, first_step=-9)  # out of order: an earlier step of the same value
    assert shown(store, after)["loss/min"] == (4.0, -9)
    assert shown(store, after)["loss/max"] == (7.0, 2)
    store.log_metric(after, Metric("loss", 8.0, 0, -20))
    assert shown(store, after)["loss/max"] == (8.0, -20)


def test_they_are_those_of_all_points_in_any_order(
    store: TimescaleTrackingStore, conn: psycopg.Connection, experiment: str
) -> None:
    rng = random.Random(4)
    points = [Metric("m", rng.choice([rng.random(), 0.5]), i, i // 3) for i in range(900)]
    rng.shuffle(points)
    run = new_run(store, experiment, math.nan)
    switch(conn, on=True)
    for first in range(0, 900, 150):
        store.log_batch(run, points[first : first + 150], [], [])
    row = (
        "SELECT min, min_step, max, max_step FROM mlops.metric_extremes"
        " WHERE run_uuid = %s AND key = 'm'"
    )
    extremes = conn.execute(row, [run]).fetchone()
    assert (*shown(store, run)["m/min"], *shown(store, run)["m/max"]) == extremes
    assert not {"loss/min", "loss/max"} & set(shown(store, run))  # NaN only


def test_mlflows_search_and_order_take_them(
    store: TimescaleTrackingStore, conn: psycopg.Connection, experiment: str
) -> None:
    runs = [new_run(store, experiment, low, 1.0) for low in (0.2, 0.1, 0.5)]
    switch(conn, on=True, experiment=experiment)
    number = store.get_experiment_by_name(experiment).experiment_id
    order = ['metrics."loss/min" ASC']
    found = store.search_runs([number], 'metrics."loss/min" < 0.3', ViewType.ACTIVE_ONLY, 10, order)
    assert [run.info.run_id for run in found] == [runs[1], runs[0]]
    assert found[0].data.metrics == {"loss": 1.0, "loss/min": 0.1, "loss/max": 1.0}


def test_their_history_is_the_one_point_that_they_are(
    store: TimescaleTrackingStore, conn: psycopg.Connection, experiment: str
) -> None:
    run = new_run(store, experiment, 2.0, 1.0, 3.0)
    switch(conn, on=True, experiment=experiment)
    [point] = store.get_metric_history(run, "loss/min")
    assert (point.key, point.value, point.step, point.timestamp) == ("loss/min", 1.0, 1, 1_001)
    page = store.get_metric_history(run, "loss/min", 1)
    assert (len(page), page.token) == (1, None)
    assert [m.value for m in store.get_metric_history_bulk([run], "loss/max", 9)] == [3.0]
    chart = [
        store.get_metric_history_bulk_interval([run], "loss/max", 9, *steps)
        for steps in ((None, None), (0, 1))
    ]
    assert [[m.value for m in points] for points in chart] == [[3.0], []]
    assert store.get_metric_history(run, "other/min") == []


@pytest.mark.parametrize("first", ["the metric", "the switch"])
def test_a_metric_of_the_user_under_such_a_name_wins_and_stays(
    store: TimescaleTrackingStore,
    conn: psycopg.Connection,
    shared_database: DatabaseURI,
    experiment: str,
    first: str,
) -> None:
    run = new_run(store, experiment, 1.0, 9.0)
    if first == "the switch":
        switch(conn, on=True, experiment=experiment)
    plain = SqlAlchemyStore(vanilla_url(shared_database), "/artifacts")
    for writer, key in ((store, "loss/max"), (plain, "loss/min")):
        log(writer, run, 5.0, key=key)
    plain._dispose_engine()
    switch(conn, on=True, experiment=experiment)
    log(store, run, 0.5, 20.0, first_step=2)
    own = {"loss": (20.0, 3), "loss/max": (5.0, 0), "loss/min": (5.0, 0)}
    assert own.items() <= shown(store, run).items()
    log(store, run, 6.0, key="loss/max", first_step=1)
    switch(conn, on=False)
    assert shown(store, run) == own | {"loss/max": (6.0, 1)}


def test_a_metric_and_its_namesake_in_one_batch_do_not_collide(
    store: TimescaleTrackingStore, conn: psycopg.Connection, experiment: str
) -> None:
    switch(conn, on=True, experiment=experiment)
    run = new_run(store, experiment, math.nan, key="other")
    both = [Metric("loss", 1.0, 1, 1), Metric("loss/min", 7.0, 0, 0), Metric("l" * 248, 2.0, 0, 0)]
    store.log_batch(run, both, [], [])
    metrics = shown(store, run)
    assert metrics["loss/min"] == (7.0, 0)
    assert metrics["loss/max"] == (1.0, 1)
    assert max(map(len, metrics)) <= 250


def test_plain_mlflow_reads_and_writes_the_same_runs(
    store: TimescaleTrackingStore,
    conn: psycopg.Connection,
    shared_database: DatabaseURI,
    experiment: str,
) -> None:
    switch(conn, on=True, experiment=experiment)
    plain = SqlAlchemyStore(vanilla_url(shared_database), "/artifacts")
    run = new_run(plain, experiment, 3.0, 1.0)
    plain.log_metric(run, Metric("loss", 4.0, 9, 9))
    assert plain.get_run(run).data.metrics == {"loss": 4.0, "loss/min": 1.0, "loss/max": 4.0}
    assert plain.get_metric_history(run, "loss/min") == []
    plain.delete_run(run)
    plain._hard_delete_run(run)
    plain._dispose_engine()
    left = "SELECT count(*) FROM {} WHERE run_uuid = %s"
    for table in ("latest_metrics", "mlops.generated_metrics"):
        assert conn.execute(left.format(table), [run]).fetchone() == (0,)


def test_a_setting_of_an_experiment_goes_before_that_of_all(
    store: TimescaleTrackingStore, conn: psycopg.Connection, experiment: str
) -> None:
    assert settings(conn) == []
    switch(conn, on=True)
    other = new_run(store, "Default", 1.0)
    run = new_run(store, experiment, 1.0)
    assert switch(conn, on=False, experiment=experiment).metrics == 2
    assert settings(conn) == [ExtremesSetting(None, True), ExtremesSetting(experiment, False)]
    log(store, run, 2.0)
    log(store, other, 2.0, first_step=1)
    assert set(shown(store, run)) == {"loss"}
    assert shown(store, other)["loss/max"] == (2.0, 1)
    switch(conn, on=False)
    assert settings(conn) == []
    assert set(shown(store, other)) == {"loss"}
    with pytest.raises(LookupError, match="no experiment 'nowhere'"):
        switch(conn, on=True, experiment="nowhere")


def test_a_writer_that_began_before_the_switch_is_counted(
    store: TimescaleTrackingStore,
    conn: psycopg.Connection,
    shared_database: DatabaseURI,
    experiment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = new_run(store, experiment, 3.0)
    with db.connect(shared_database) as writer:
        insert = (
            "INSERT INTO metrics (run_uuid, key, step, timestamp, value, is_nan)"
            " VALUES (%s, 'loss', 9, 9, 0.5, false)"
        )
        writer.execute(insert, [run])
        monkeypatch.setattr(
            extremes,
            "with_short_waits",
            lambda conn, work: db.with_short_waits(conn, work, patience=0.1),
        )
        with pytest.raises(db.LocksHeld):
            switch(conn, on=True, experiment=experiment)
        assert settings(conn) == []
        writer.commit()
    switch(conn, on=True, experiment=experiment)
    assert shown(store, run)["loss/min"] == (0.5, 9)


def test_import_and_sync_bring_metrics_and_not_what_was_generated_from_them(
    store: TimescaleTrackingStore,
    conn: psycopg.Connection,
    shared_database: DatabaseURI,
    experiment: str,
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
) -> None:
    switch(conn, on=True, experiment=experiment)
    run = new_run(store, experiment, 3.0, 1.0)
    log(store, run, 5.0, key="loss/max")
    with new_database() as new, db.connect(new, autocommit=True) as target:
        switch(target, on=True)
        import_from(shared_database.url, target)
        there = TimescaleTrackingStore(new.url, "/artifacts")
        here = {"loss": (1.0, 1), "loss/min": (1.0, 1), "loss/max": (5.0, 0)}
        assert here.items() <= shown(there, run).items()
        log(store, run, 0.5, 4.0, first_step=2)
        log(store, run, 2.0, key="loss/min")
        merge_from(shared_database.url, target, changes=True)
        here = {"loss": (4.0, 3), "loss/min": (2.0, 0), "loss/max": (5.0, 0)}
        assert here.items() <= shown(there, run).items()
        switch(target, on=False)
        assert shown(there, run) == here
        later = new_run(store, experiment, 1.0)
        merge_from(shared_database.url, target, changes=True)
        assert set(shown(there, later)) == {"loss"}


def test_the_points_of_a_writer_change_them_and_a_reader_sees_them(people: Logins) -> None:
    with people.connect(ADMIN) as admin:
        switch(admin, on=True)
    writer = TimescaleTrackingStore(people.uri(WRITER).url, "/artifacts")
    run = new_run(writer, "Default", 2.0, 1.0)
    log(writer, run, 7.0, key="loss/max")
    assert shown(writer, run)["loss/min"] == (1.0, 1)
    assert shown(writer, run)["loss/max"] == (7.0, 0)
    table = mlflow_timescale.metric_extremes(people.uri(READER), run, "loss")
    assert table["max"].to_pylist() == [2.0]


def test_a_released_database_keeps_none_of_them(database: DatabaseURI) -> None:
    store = TimescaleTrackingStore(database.url, "/artifacts")
    run = new_run(store, "Default", 1.0)
    with db.connect(database, autocommit=True) as conn:
        switch(conn, on=True)
        release(conn)
        keys = "SELECT key FROM latest_metrics WHERE run_uuid = %s"
        assert conn.execute(keys, [run]).fetchall() == [("loss",)]
        adopt(conn)
        assert settings(conn) == []


def test_the_command_switches_and_prints_the_settings(
    store: TimescaleTrackingStore, shared_database: DatabaseURI, experiment: str
) -> None:
    run = new_run(store, experiment, 2.0)

    def call(*words: str) -> str:
        arguments = ["metrics", "extremes", *words, "--uri", shared_database.url]
        result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        return str(result.output)

    assert call() == "extremes are shown in no experiment\n"
    assert (
        call("on", "--experiment", experiment, "--dry-run")
        == "1 runs would have 2 generated metrics\n"
    )
    assert call("on", "--experiment", experiment) == "1 runs have 2 generated metrics\n"
    assert json.loads(call("--json")) == [{"experiment": experiment, "is_on": True}]
    client = MlflowClient(shared_database.url, shared_database.url)
    assert client.get_run(run).data.metrics["loss/min"] == 2.0
    assert call("off", "--experiment", experiment) == "1 runs lost 2 generated metrics\n"
