"""A server as people deploy it: four workers at once on an empty database, jobs and rollups on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from mlflow.cli import cli
from support.servers import PATIENCE, Server, mlflow_server, shows_password, with_password

from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI

pytestmark = [pytest.mark.server, pytest.mark.slow]
WORKERS = 4
JOBS = "/ajax-api/3.0/jobs"


@pytest.fixture(scope="module")
def empty(
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
) -> Iterator[DatabaseURI]:
    with new_database(empty=True) as database:
        yield database


@pytest.fixture(scope="module")
def server_process(
    empty: DatabaseURI, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("jobs")
    with mlflow_server(
        "--backend-store-uri",
        with_password(empty).url,
        "--workers",
        str(WORKERS),
        log_file=directory / "log",
        environment={
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "MLFLOW_SQL_TRACE_ROLLUPS_ENABLED": "true",
            "_MLFLOW_SUPPORTED_JOB_FUNCTION_LIST": "support.jobs.backtest",
            "_MLFLOW_ALLOWED_JOB_NAME_LIST": "backtest",
        },
    ) as server:
        yield server


def until(holds: Callable[[], object]) -> bool:
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def test_all_workers_come_up_on_an_empty_database(server_process: Server) -> None:
    up = "Application startup complete"
    assert until(lambda: server_process.log.count(up) == WORKERS)
    for _ in range(3 * WORKERS):
        found = server_process.post("/api/2.0/mlflow/experiments/search", {"max_results": 1})
        assert [item["name"] for item in found.json()["experiments"]] == ["Default"]
    assert "Traceback" not in server_process.log


def test_our_schema_is_there_too(server_process: Server, empty: DatabaseURI) -> None:
    with db.connect(empty) as conn:
        applied = conn.execute("SELECT name FROM mlops.migrations ORDER BY name").fetchall()
    assert ("tracking/002_metrics_layout",) in applied


def test_the_job_runner_is_started(server_process: Server) -> None:
    assert until(lambda: "mlflow.server.jobs._job_runner" in "".join(server_process.commands()))
    assert "job execution requirements not met" not in server_process.log


def test_a_submitted_job_runs_and_logs_to_our_store(
    server_process: Server, empty: DatabaseURI
) -> None:
    submitted = server_process.post(f"{JOBS}/", {"job_name": "backtest", "params": {"window": 20}})
    job_id = submitted.json()["job_id"]

    def job() -> dict[str, object]:
        found: dict[str, object] = server_process.get(f"{JOBS}/{job_id}").json()
        return found

    assert until(lambda: job()["status"] not in ("PENDING", "RUNNING"))
    done = job()
    assert (done["status"], done["error_message"]) == ("SUCCEEDED", None)
    mlflow.set_tracking_uri(empty.url)
    assert mlflow.get_run(done["result"]["run_id"]).data.metrics == {"sharpe": 2.0}


def test_trace_rollups_are_maintained(server_process: Server) -> None:
    assert until(lambda: "Registered sql_trace_rollup_scheduler" in server_process.log)
    assert "rollups are disabled" not in server_process.log


def test_finished_jobs_are_collected_by_id_and_by_flag(
    server_process: Server, empty: DatabaseURI
) -> None:
    for window in (1, 2):
        server_process.post(f"{JOBS}/", {"job_name": "backtest", "params": {"window": window}})

    def finished() -> list[str]:
        query = {"job_name": "backtest", "statuses": ["SUCCEEDED"]}
        jobs = server_process.post(f"{JOBS}/search", query).json()["jobs"]
        return [job["job_id"] for job in jobs]

    assert until(lambda: len(finished()) >= 2)
    first, *rest = finished()
    assert gc(empty, "--job-ids", first) == 0
    assert finished() == rest
    assert gc(empty, "--jobs") == 0
    assert finished() == []


def gc(database: DatabaseURI, *arguments: str) -> int:
    options = ["--backend-store-uri", database.url, "--tracking-uri", database.url]
    return CliRunner().invoke(cli, ["gc", *options, *arguments]).exit_code


def test_the_log_names_no_password(server_process: Server) -> None:
    assert not shows_password(server_process.log)
