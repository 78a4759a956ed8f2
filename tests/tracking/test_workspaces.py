"""Workspaces: the fast paths see no further than MLflow's own."""

from __future__ import annotations

import pytest
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.workspace_context import WorkspaceContext

from mlflow_timescale.registry.store import WorkspaceAwareTimescaleRegistryStore
from mlflow_timescale.tracking.store import WorkspaceAwareTimescaleTrackingStore


@pytest.fixture
def store(database, monkeypatch):
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    return WorkspaceAwareTimescaleTrackingStore(database.url, "/artifacts")


@pytest.fixture
def desk(store):
    """A run with everything in the workspace `desk`, and its experiment."""
    with WorkspaceContext("desk"):
        experiment = store.create_experiment("signals")
        run = store.create_run(experiment, "me", 1, [], "run").info.run_id
        store.log_batch(run, [Metric("m", 1.0, 1, 1)], [Param("p", "1")], [RunTag("t", "1")])
    return run, experiment


def test_inside_its_workspace_a_run_is_written_and_read(store, desk):
    run, experiment = desk
    with WorkspaceContext("desk"):
        store.log_metric(run, Metric("m", 2.0, 2, 2))
        assert store.get_run(run).data.metrics == {"m": 2.0}
        assert len(store.search_runs([experiment], "", ViewType.ALL)) == 1
        assert len(store.get_metric_history(run, "m")) == 2
        assert len(store.get_metric_history_bulk([run], "m", 9)) == 2
        assert len(store.get_metric_history_bulk_interval([run], "m", 9, None, None)) == 2
        assert store.get_max_step_for_metric(run, "m") == 2


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("get_run", ()),
        ("log_metric", (Metric("m", 2.0, 2, 2),)),
        ("log_param", (Param("q", "1"),)),
        ("set_tag", (RunTag("t", "2"),)),
        ("log_batch", ([Metric("m", 2.0, 2, 2)], [], [])),
        ("get_metric_history", ("m",)),
        ("get_max_step_for_metric", ("m",)),
        ("get_metric_history_bulk_interval_from_steps", ("m", [1], 5)),
    ],
)
def test_from_another_workspace_a_run_does_not_exist(store, desk, method, arguments):
    with WorkspaceContext("other"), pytest.raises(MlflowException) as caught:
        getattr(store, method)(desk[0], *arguments)
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_from_another_workspace_searches_and_charts_find_nothing(store, desk):
    run, experiment = desk
    with WorkspaceContext("other"):
        assert store.search_runs([experiment], "", ViewType.ALL) == []
        assert store.get_metric_history_bulk([run], "m", 9) == []
        with pytest.raises(MlflowException, match="not found"):
            store.get_metric_history_bulk_interval([run], "m", 9, None, None)
        with pytest.raises(MlflowException, match="No Experiment"):
            store.create_run(experiment, "me", 1, [], "intruder")


def test_aliases_are_those_of_the_workspace(database, store, monkeypatch):
    registry = WorkspaceAwareTimescaleRegistryStore(database.url)
    for workspace, alias in (("desk", "champion"), ("other", "candidate")):
        with WorkspaceContext(workspace):
            registry.create_registered_model("model")
            registry.create_model_version("model", "s3://x")
            registry.set_registered_model_alias("model", alias, 1)
    with WorkspaceContext("other"):
        assert [v.aliases for v in registry.search_model_versions()] == [["candidate"]]
