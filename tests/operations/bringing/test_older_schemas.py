"""A sqlite file of an older MLflow is read from an upgraded copy, and stays as it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path

import mlflow.store.db.utils as mlflow_db
import pytest
from alembic import command
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase
from sqlalchemy import event
from support.databases import dispose_engines

from mlflow_timescale.cli import cli
from mlflow_timescale.db.uri import DatabaseURI

NewDatabase = Callable[..., AbstractContextManager[DatabaseURI]]
pytestmark = pytest.mark.slow  # MLflow's migrations on sqlite take 10 s

RUN = "0123456789abcdef0123456789abcdef"
ROWS = (
    "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage)"
    " VALUES (7, 'old', 's3://bucket/7', 'active')",
    "INSERT INTO runs (run_uuid, name, source_type, user_id, status, start_time, lifecycle_stage,"
    f" artifact_uri, experiment_id) VALUES ('{RUN}', 'of 2019', 'LOCAL', 'me', 'FINISHED', 1,"
    " 'active', 's3://bucket/7/run/artifacts', 7)",
    f"INSERT INTO params (run_uuid, key, value) VALUES ('{RUN}', 'p', '1')",
    f"INSERT INTO tags (run_uuid, key, value) VALUES ('{RUN}', 't', 'ü')",
    f"INSERT INTO metrics (run_uuid, key, value, timestamp) VALUES ('{RUN}', 'ic', 0.5, 1000)",
)


def make_database_of(revision: str, path: Path) -> None:
    """A sqlite file of MLflow's at an older schema, with one run."""
    engine = mlflow_db.create_sqlalchemy_engine(f"sqlite:///{path}")
    event.listen(engine, "connect", lambda conn, _: conn.execute("PRAGMA synchronous = OFF"))
    InitialBase.metadata.create_all(engine)
    config = mlflow_db._get_alembic_config(str(engine.url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    with closing(sqlite3.connect(path)) as conn:
        for statement in ROWS:
            conn.execute(statement)
        conn.commit()


@pytest.mark.parametrize(
    "revision",
    [
        pytest.param("451aebb31d03", id="MLflow 1.0"),
        pytest.param("acf3f17fdcc7", id="MLflow 2.9"),
        pytest.param("75868b020152", id="the schema before this one"),
    ],
)
def test_a_sqlite_file_of_an_older_mlflow_is_synced_twice_and_stays_as_it_is(
    revision: str, new_database: NewDatabase, tmp_path: Path
) -> None:
    path = tmp_path / "mlflow.db"
    make_database_of(revision, path)
    before = path.read_bytes()
    path.chmod(0o444)
    with new_database() as uri:
        for grown in (1, 0):
            words = ["sync", f"sqlite:///{path}", "--uri", uri.url]
            result = CliRunner().invoke(cli, words, catch_exceptions=False)
            assert result.exit_code == 0, result.output
            assert "is of an older MLflow: a copy of it was upgraded" in result.output
            assert ("1 new runs" in result.output) == bool(grown)
        client = MlflowClient(uri.url, uri.url)
        run = client.get_run(RUN)
        assert (run.data.params, run.data.tags["t"]) == ({"p": "1"}, "ü")
        [point] = client.get_metric_history(RUN, "ic")
        assert (point.value, point.timestamp, point.step) == (0.5, 1000, 0)
        assert client.get_experiment_by_name("old") is not None
        dispose_engines()
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["mlflow.db"]
