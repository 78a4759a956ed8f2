"""A source and a target for the tests of `import` and `sync`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from support.bringing import Source, Target
from support.databases import dispose_engines

from mlflow_timescale.db.uri import DatabaseURI

NewDatabase = Callable[..., AbstractContextManager[DatabaseURI]]


@pytest.fixture(scope="session")
def empty_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    SqlAlchemyStore(f"sqlite:///{path}", "/nowhere")
    dispose_engines()
    return path


@pytest.fixture
def source(empty_source: Path, tmp_path: Path) -> Source:
    shutil.copy(empty_source, tmp_path / "mlflow.db")
    return Source(tmp_path / "mlflow.db")


@pytest.fixture(scope="module")
def target(new_database: NewDatabase) -> Iterator[Target]:
    """A database in use, shared by the tests of this file: their runs have ids of their own."""
    with new_database() as uri:
        mine = Target(uri)
        mine.experiment("before")
        experiment = mine.experiment("workflow")
        mine.client.create_run(experiment, run_name="here before")
        yield mine


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return tmp_path / "mlruns"
