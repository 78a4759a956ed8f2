"""Requests in a row on one connection, with one worker and with several."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.servers import Server, timescale_server, with_password

from mlflow_timescale.db.uri import DatabaseURI

pytestmark = [pytest.mark.server, pytest.mark.slow]
REQUESTS = 100


def test_several_workers_answer_a_kept_connection_as_fast_as_one(
    shared_database: DatabaseURI, tmp_path: Path
) -> None:
    # Without uvloop, the socket that workers share has no TCP_NODELAY: each answer then waits about
    # 40 ms for an acknowledgement, ten times what the request takes.
    one, four = (least_time(shared_database, tmp_path, workers) for workers in (1, 4))
    assert four < 3 * one


def least_time(database: DatabaseURI, directory: Path, workers: int) -> float:
    """Seconds of the fastest request: other programs of the machine make some of them slow."""
    with timescale_server(
        *("--workers", str(workers)),
        log_file=directory / f"log{workers}",
        environment={
            "MLFLOW_TIMESCALE_URI": with_password(database).url,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        },
    ) as server:
        return min(timed(server) for _ in range(REQUESTS))


def timed(server: Server) -> float:
    begin = time.perf_counter()
    assert server.get("/health").ok
    return time.perf_counter() - begin
