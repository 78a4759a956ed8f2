"""Two writers set the same thing for the first time: both succeed, and the last one wins.

The first writer is a transaction that has inserted the row and not committed. The store's call
reads no row, inserts its own, and waits for the first writer; then that one commits.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from mlflow.entities import (
    Dataset,
    DatasetInput,
    ExperimentTag,
    LoggedModelParameter,
    LoggedModelTag,
    TraceInfo,
    TraceLocation,
    TraceState,
)
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.exceptions import MlflowException

from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.registry.store import TimescaleRegistryStore
from mlflow_timescale.tracking.store import TimescaleTrackingStore

_BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
_DATASET = (
    "INSERT INTO datasets (dataset_uuid, experiment_id, name, digest, dataset_source_type,"
    " dataset_source) VALUES ('theirs', 0, 'train', '1', 'local', '{}')"
)


@dataclass
class World:
    """Both stores on one database, and what the calls write to."""

    uri: DatabaseURI
    tracking: TimescaleTrackingStore
    registry: TimescaleRegistryStore
    run_id: str
    model_id: str


@pytest.fixture
def world(database: DatabaseURI) -> World:
    tracking = TimescaleTrackingStore(database.url, "/artifacts")
    registry = TimescaleRegistryStore(database.url)
    run_id = tracking.create_run("0", "me", 1, [], None).info.run_id
    model_id = tracking.create_logged_model("0", "model").model_id
    location = TraceLocation.from_experiment_id("0")
    tracking.start_trace(TraceInfo("tr-1", location, request_time=1, state=TraceState.OK))
    registry.create_registered_model("m")
    for _ in range(2):
        registry.create_model_version("m", "s3://bucket/model")
    return World(database, tracking, registry, run_id, model_id)


def second(world: World, insert: str, call: Callable[[], Any]) -> None:
    """Make a call that waits for a transaction which has inserted the same row, and commits."""
    with db.connect(world.uri) as first, ThreadPoolExecutor(1) as pool:
        first.execute(insert, {"run": world.run_id, "model": world.model_id})
        pending = pool.submit(call)
        _wait_until_blocked(world.uri, first.info.backend_pid, pending)
        first.commit()
        pending.result(60)


def _wait_until_blocked(uri: DatabaseURI, pid: int, pending: Any) -> None:
    with db.connect(uri, autocommit=True) as observer:
        while not observer.execute(_BLOCKED, [pid]).fetchall()[0][0]:
            assert not pending.done(), pending.result()


def value(world: World, table: str, column: str = "value") -> list[Any]:
    with db.connect(world.uri) as conn:
        query = psycopg.sql.SQL("SELECT {} FROM {}").format(
            psycopg.sql.Identifier(column), psycopg.sql.Identifier(table)
        )
        return [row[0] for row in conn.execute(query)]


CALLS: dict[str, tuple[str, Callable[[World], Any]]] = {
    "experiment_tags": (
        "INSERT INTO experiment_tags (experiment_id, key, value) VALUES (0, 'k', 'theirs')",
        lambda w: w.tracking.set_experiment_tag("0", ExperimentTag("k", "ours")),
    ),
    "logged_model_tags": (
        "INSERT INTO logged_model_tags (model_id, experiment_id, tag_key, tag_value)"
        " VALUES (%(model)s, 0, 'k', 'theirs')",
        lambda w: w.tracking.set_logged_model_tags(w.model_id, [LoggedModelTag("k", "ours")]),
    ),
    "trace_tags": (
        "INSERT INTO trace_tags (request_id, key, value) VALUES ('tr-1', 'k', 'theirs')",
        lambda w: w.tracking.set_trace_tag("tr-1", "k", "ours"),
    ),
    "registered_model_tags": (
        "INSERT INTO registered_model_tags (workspace, name, key, value)"
        " VALUES ('default', 'm', 'k', 'theirs')",
        lambda w: w.registry.set_registered_model_tag("m", RegisteredModelTag("k", "ours")),
    ),
    "model_version_tags": (
        "INSERT INTO model_version_tags (workspace, name, version, key, value)"
        " VALUES ('default', 'm', 1, 'k', 'theirs')",
        lambda w: w.registry.set_model_version_tag("m", "1", ModelVersionTag("k", "ours")),
    ),
}


@pytest.mark.parametrize("table", CALLS)
def test_the_second_writer_of_a_tag_wins(world: World, table: str) -> None:
    insert, call = CALLS[table]
    second(world, insert, lambda: call(world))
    column = "tag_value" if table == "logged_model_tags" else "value"
    assert "ours" in value(world, table, column)
    assert "theirs" not in value(world, table, column)


def test_the_second_writer_of_an_alias_wins(world: World) -> None:
    insert = (
        "INSERT INTO registered_model_aliases (workspace, name, alias, version)"
        " VALUES ('default', 'm', 'prod', 1)"
    )
    second(world, insert, lambda: world.registry.set_registered_model_alias("m", "prod", "2"))
    assert world.registry.get_model_version_by_alias("m", "prod").version == 2


def test_a_dataset_that_two_runs_log_first_is_one_dataset(world: World) -> None:
    dataset = DatasetInput(Dataset("train", "1", "local", "{}"), [])
    second(world, _DATASET, lambda: world.tracking.log_inputs(world.run_id, [dataset]))
    assert value(world, "datasets", "dataset_uuid") == ["theirs"]
    assert len(world.tracking.get_run(world.run_id).inputs.dataset_inputs) == 1


def test_a_trace_that_two_writers_link_to_a_run_is_linked_once(world: World) -> None:
    link = (
        "INSERT INTO entity_associations"
        " (association_id, source_type, source_id, destination_type, destination_id, created_time)"
        " VALUES ('theirs', 'trace', 'tr-1', 'run', %(run)s, 1)"
    )
    second(world, link, lambda: world.tracking.link_traces_to_run(["tr-1"], world.run_id))
    assert value(world, "entity_associations", "association_id") == ["theirs"]


def test_a_conflict_that_is_the_callers_stays_an_error(world: World) -> None:
    for call in (
        lambda: world.tracking.create_experiment("Default"),
        lambda: world.registry.create_registered_model("m"),
    ):
        with pytest.raises(MlflowException) as error:
            call()
        assert error.value.error_code == "RESOURCE_ALREADY_EXISTS"
    params = [LoggedModelParameter("k", "1")]
    world.tracking.log_logged_model_params(world.model_id, params)
    with pytest.raises(MlflowException) as error:
        world.tracking.log_logged_model_params(
            world.model_id, [*params, LoggedModelParameter("k", "2")]
        )
    assert error.value.error_code == "BAD_REQUEST"


def test_a_tag_of_a_model_that_is_deleted_meanwhile_says_so(world: World) -> None:
    world.registry.create_registered_model("empty")
    delete = "DELETE FROM registered_models WHERE name = 'empty'"
    tag = RegisteredModelTag("k", "ours")
    with pytest.raises(MlflowException) as error:
        second(
            world,
            delete,
            lambda: world.registry.set_registered_model_tag("empty", tag),
        )
    assert error.value.error_code == "RESOURCE_DOES_NOT_EXIST"


@pytest.mark.slow
def test_sixteen_processes_worth_of_versions_get_a_number_each(world: World) -> None:
    with ThreadPoolExecutor(16) as pool:
        versions = pool.map(
            lambda _: world.registry.create_model_version("m", "s3://bucket/model").version,
            range(48),
        )
    assert sorted(versions) == list(range(3, 51))
