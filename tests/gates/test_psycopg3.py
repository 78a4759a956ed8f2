"""The two places where MLflow's ORM fails on psycopg 3 and passes on psycopg2 (mlflow#9151)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.entities.model_registry import ModelVersion
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.utils.workspace_context import WorkspaceContext
from sqlalchemy import select
from sqlalchemy.exc import DataError

from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.registry.store import (
    TimescaleRegistryStore,
    WorkspaceAwareTimescaleRegistryStore,
)
from mlflow_timescale.tracking.store import (
    TimescaleTrackingStore,
    WorkspaceAwareTimescaleTrackingStore,
)


@pytest.fixture(params=["single", "workspaces"])
def workspaces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Once for the plain stores, once for their twins."""
    if request.param == "single":
        yield False
        return
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    with WorkspaceContext("default"):
        yield True


@pytest.fixture
def tracking(
    workspaces: bool, shared_database: DatabaseURI, tmp_path: Path
) -> TimescaleTrackingStore | WorkspaceAwareTimescaleTrackingStore:
    cls = WorkspaceAwareTimescaleTrackingStore if workspaces else TimescaleTrackingStore
    return cls(shared_database.url, str(tmp_path))


@pytest.fixture
def registry(
    workspaces: bool, shared_database: DatabaseURI
) -> TimescaleRegistryStore | WorkspaceAwareTimescaleRegistryStore:
    cls = WorkspaceAwareTimescaleRegistryStore if workspaces else TimescaleRegistryStore
    return cls(shared_database.url)


def test_a_dataset_is_added_to_experiments_and_removed(
    tracking: TimescaleTrackingStore, workspaces: bool
) -> None:
    first, second = (
        tracking.create_experiment(f"evaluation {n} {workspaces}") for n in ("one", "two")
    )
    dataset = tracking.create_dataset(f"prices {workspaces}", experiment_ids=[first])
    tracking.add_dataset_to_experiments(dataset.dataset_id, [second])
    assert set(tracking.get_dataset_experiment_ids(dataset.dataset_id)) == {first, second}
    tracking.remove_dataset_from_experiments(dataset.dataset_id, [first])
    assert tracking.get_dataset_experiment_ids(dataset.dataset_id) == [second]


def test_a_stage_transition_archives_the_versions_that_held_the_stage(
    registry: TimescaleRegistryStore, workspaces: bool
) -> None:
    name = f"momentum {workspaces}"
    registry.create_registered_model(name)
    versions = [registry.create_model_version(name, "s3://models/momentum") for _ in range(3)]
    for version in versions:
        registry.transition_model_version_stage(
            name, str(version.version), "Production", archive_existing_versions=True
        )
    stages = [stage_of(registry.get_model_version(name, str(v.version))) for v in versions]
    assert stages == ["Archived", "Archived", "Production"]


def stage_of(version: ModelVersion) -> str:
    stage: str = version.current_stage
    return stage


def test_what_is_not_a_number_is_refused_where_a_number_is_compared(
    registry: TimescaleRegistryStore,
) -> None:
    """The cast must not turn nonsense into a match, nor into another kind of error."""
    statement = select(SqlModelVersion.name).where(SqlModelVersion.version == "one")
    with (
        pytest.raises(DataError, match="invalid input syntax for type integer"),
        registry.engine.connect() as conn,
    ):
        conn.execute(statement)
