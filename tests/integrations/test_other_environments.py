"""Airflow and ZenML: in an environment of their own, by HTTP to our server.

They have hundreds of dependencies with pins, so they are not among our extras. A test runs
where a variable names the Python of an environment that has the package and MLflow (for ZenML also
mlflow-timescale), as in:

    python -m venv airflow && airflow/bin/pip install apache-airflow mlflow-skinny
    AIRFLOW_PYTHON=airflow/bin/python pytest tests/integrations/test_other_environments.py -m slow
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from support.servers import Server, timescale_server

from mlflow_timescale.db.uri import DatabaseURI

pytestmark = pytest.mark.slow  # a server, and imports of a minute

AIRFLOW = """
from datetime import datetime
from airflow.sdk import dag, task

@dag(schedule=None, start_date=datetime(2024, 4, 18))
def nightly():
    @task
    def train():
        import mlflow
        mlflow.set_experiment("airflow")
        with mlflow.start_run(run_name="nightly"):
            mlflow.log_param("lookback", 20)
            for step in range(5):
                mlflow.log_metric("loss", 1 / (step + 1), step=step)
            mlflow.log_text("of a task", "note.txt")
    train()

nightly()
"""
ZENML = """
import os
import mlflow
from zenml import pipeline, step
from zenml.client import Client

client = Client()
client.create_stack_component(
    "ours", "mlflow", "experiment_tracker",
    {"tracking_uri": mlflow.get_tracking_uri(), "tracking_token": "none"},
)
client.create_stack(
    "ours",
    {"orchestrator": "default", "artifact_store": "default", "experiment_tracker": "ours"},
)
client.activate_stack("ours")

@step(experiment_tracker="ours", enable_cache=False)
def train() -> None:
    mlflow.log_param("lookback", 20)
    for step in range(5):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.log_text("of a task", "note.txt")

@pipeline(name=os.environ["PIPELINE"])
def zenml() -> None:
    train()

zenml()
"""


@pytest.fixture(scope="module")
def web(shared_database: DatabaseURI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "server.log"
    with timescale_server("--uri", shared_database.url, log_file=log) as running:
        yield running


def needs(package: str) -> pytest.MarkDecorator:
    """Skip a test where no variable names a Python that has a package."""
    name = _variable(package)
    return pytest.mark.skipif(name not in os.environ, reason=f"{name} names no Python")


def _variable(package: str) -> str:
    return f"{package.upper()}_PYTHON"


def run(package: str, program: str | list[str], folder: Path, **environment: str) -> None:
    words = ["-c", program] if isinstance(program, str) else program
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    done = subprocess.run(
        [os.environ[_variable(package)], *words],
        cwd=folder,
        env=kept | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def the_run(database: DatabaseURI, experiment: str) -> Run:
    """The only run of an experiment, read from the database."""
    client = MlflowClient(database.url)
    [run] = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    assert (run.info.status, run.data.params["lookback"]) == ("FINISHED", "20")
    points = client.get_metric_history(run.info.run_id, "loss")
    assert len(points) == 5
    assert points[-1].value < points[0].value
    text = Path(client.download_artifacts(run.info.run_id, "note.txt")).read_text()
    assert text == "of a task"
    return run


@needs("airflow")
def test_a_task_of_airflow_logs_by_http(
    web: Server, shared_database: DatabaseURI, tmp_path: Path
) -> None:
    environment = {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "MLFLOW_TRACKING_URI": web.url,
    }
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "nightly.py").write_text(AIRFLOW)
    for words in (["db", "migrate"], ["dags", "reserialize"], ["dags", "test", "nightly"]):
        run("airflow", ["-m", "airflow", *words], tmp_path, **environment)
    assert the_run(shared_database, "airflow").info.run_name == "nightly"


@needs("zenml")
@pytest.mark.parametrize("way", ["http", "uri"])
def test_a_step_of_zenml_logs_by_http_and_by_our_uri(
    way: str, web: Server, shared_database: DatabaseURI, tmp_path: Path
) -> None:
    uri = web.url if way == "http" else shared_database.url
    (tmp_path / "pipeline.py").write_text(ZENML)
    environment = {
        "ZENML_CONFIG_PATH": str(tmp_path / "config"),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "MLFLOW_TRACKING_URI": uri,
        "PIPELINE": f"zenml-{way}",
    }
    run("zenml", ["pipeline.py"], tmp_path, **environment)
    assert the_run(shared_database, f"zenml-{way}").data.tags


@needs("zenml")
def test_zenml_refuses_the_short_scheme_and_takes_the_long_one(tmp_path: Path) -> None:
    program = (
        "from zenml.integrations.mlflow.experiment_trackers import MLFlowExperimentTracker as T\n"
        "from zenml.integrations.mlflow.flavors.mlflow_experiment_tracker_flavor import"
        " MLFlowExperimentTrackerConfig as Config\n"
        "class Tracker(T):\n"
        "    def __init__(self, uri):\n"
        "        self._config = Config(tracking_uri=uri)\n"
        "Tracker('postgresql+timescaledb://mlflow@db/mlflow')._ensure_valid_tracking_uri()\n"
        "try:\n"
        "    Tracker('timescaledb://mlflow@db/mlflow')._ensure_valid_tracking_uri()\n"
        "except ValueError:\n"
        "    pass\n"
        "else:\n"
        "    raise SystemExit('the short scheme is taken')\n"
    )
    environment = {"ZENML_CONFIG_PATH": str(tmp_path), "ZENML_ANALYTICS_OPT_IN": "false"}
    run("zenml", program, tmp_path, **environment)
