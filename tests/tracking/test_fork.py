"""fork() after the stores were used: parent and children, readers and writers, all at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersionTag
from support.forks import fork, wait_for

from feature_store import FeatureStore
from mlflow_timescale.artifacts.in_database import InDatabaseRepository
from mlflow_timescale.db import DatabaseURI
from mlflow_timescale.registry.store import TimescaleRegistryStore
from mlflow_timescale.tracking.store import TimescaleTrackingStore

pytestmark = pytest.mark.slow

CHILDREN, CALLS = 3, 12
EVENT = datetime(2024, 1, 1, tzinfo=timezone.utc)
Work = Callable[[str], None]


@pytest.fixture
def works(database: DatabaseURI, tmp_path: Path) -> Iterator[dict[str, Work]]:
    """A write and a read of every store, by a name that no other process uses."""
    tracking = TimescaleTrackingStore(database.url, "timescaledb-artifacts:/")
    registry = TimescaleRegistryStore(database.url)
    features = FeatureStore(database)
    run = tracking.create_run("0", "me", 1, [], "run")
    artifacts = InDatabaseRepository(str(run.info.artifact_uri), database)
    registry.create_registered_model("model")
    registry.create_model_version("model", "/nowhere")

    def track(name: str) -> None:
        tracking.log_metric(run.info.run_id, Metric(name, 1.0, 1, 1))
        assert name in tracking.get_run(run.info.run_id).data.metrics

    def register(name: str) -> None:
        registry.set_model_version_tag("model", "1", ModelVersionTag(name, "1"))
        assert name in registry.get_model_version("model", "1").tags

    def store(name: str) -> None:
        file = tmp_path / f"{name}.txt"
        file.write_text(name)
        artifacts.log_artifact(str(file))
        assert Path(artifacts.download_artifacts(file.name)).read_text() == name

    def write_features(name: str) -> None:
        features.write_features(name, EVENT, {"x": 1.0}, ingest_time=EVENT)
        assert features.get_latest(name, ["x"])["x"].value == 1.0

    yield {"tracking": track, "registry": register, "artifacts": store, "features": write_features}
    features.close()


@pytest.mark.parametrize("name", ["tracking", "registry", "artifacts", "features"])
def test_parent_and_children_use_a_store_at_once(works: dict[str, Work], name: str) -> None:
    work = works[name]
    work("parent")
    stop, errors = threading.Event(), []

    def parent(number: int) -> None:
        count = 0
        while not stop.is_set():
            try:
                work(f"parent-{number}-{count}")
            except Exception as exc:
                errors.append(exc)
            count += 1

    def child(number: int) -> None:
        for call in range(CALLS):
            work(f"child-{number}-{call}")

    threads = [threading.Thread(target=parent, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    children = [fork(lambda number=number: child(number)) for number in range(CHILDREN)]
    codes = [wait_for(pid) for pid in children]
    stop.set()
    for thread in threads:
        thread.join(30)
    assert codes == [0] * CHILDREN
    assert errors == []
    work("afterwards")
