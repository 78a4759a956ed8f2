"""MLflow's fluent API in an outage: runs, asynchronous calls and traces."""

from __future__ import annotations

import json
import subprocess
import sys

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from support.spools import wait_until_empty

from benchmarks.databases import Switch
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.spool import Spool


def test_mlflow_itself_notices_no_outage(
    uri: str, shared_database: DatabaseURI, switch: Switch
) -> None:
    """The fluent API, through the entry point."""
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("fluent")
    with switch.away():
        with mlflow.start_run() as run:
            mlflow.log_param("lr", 0.1)
            mlflow.log_metrics({"loss": 1.0, "acc": 0.5}, step=1)
            mlflow.set_tag("phase", "x")
            mlflow.log_input(mlflow.data.from_pandas(pd.DataFrame({"x": [1.0]}), name="d"))
            assert mlflow.get_run(run.info.run_id).data.metrics["loss"] == 1.0
        assert mlflow.get_run(run.info.run_id).info.status == "FINISHED"
    wait_until_empty(Spool(DatabaseURI.parse(uri).option("spool")))
    stored = MlflowClient(shared_database.url).get_run(run.info.run_id)
    assert stored.data.metrics == {"loss": 1.0, "acc": 0.5}
    assert stored.info.status == "FINISHED"
    assert len(stored.inputs.dataset_inputs) == 1


@pytest.mark.slow
def test_mlflow_itself_starts_in_an_outage(
    uri: str, shared_database: DatabaseURI, switch: Switch
) -> None:
    """A process that begins and ends a run, also with an asynchronous call."""
    program = [sys.executable, "-c", FLUENT, uri]
    runs = [subprocess.run(program, text=True, capture_output=True, check=True).stdout.split()[-1]]
    with switch.away():
        offline = subprocess.run(program, text=True, capture_output=True, check=False)
        assert offline.returncode == 0, offline.stderr
        runs.append(offline.stdout.split()[-1])
    mlflow.set_tracking_uri(uri)
    assert mlflow.get_experiment_by_name("offline")  # a process that sends what waits
    wait_until_empty(Spool(DatabaseURI.parse(uri).option("spool")))
    for run_id in runs:
        run = mlflow.get_run(run_id)
        assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 1.0, "later": 2.0})


FLUENT = """
import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("offline")
with mlflow.start_run() as run:
    mlflow.log_metric("loss", 1.0)
    mlflow.log_metric("later", 2.0, synchronous=False)
print(run.info.run_id)
"""


@pytest.mark.slow
def test_traces_of_an_outage_arrive_whole(
    uri: str, shared_database: DatabaseURI, switch: Switch
) -> None:
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("traces")

    def trace(name: str) -> str:
        with mlflow.start_span(name) as span:
            span.set_inputs({"question": name})
            with mlflow.start_span("inner") as inner:
                inner.set_attribute("n", 1)
            span.set_outputs([1, 2])
        mlflow.flush_trace_async_logging()
        return str(span.trace_id)

    direct = trace("direct")
    with switch.away():
        waiting = trace("waiting")
    wait_until_empty(Spool(DatabaseURI.parse(uri).option("spool")))
    mlflow.set_tracking_uri(shared_database.url)
    traces = [
        MlflowClient(shared_database.url).get_trace(trace_id) for trace_id in (direct, waiting)
    ]
    for stored, name in zip(traces, ("direct", "waiting"), strict=True):
        assert [span.name for span in stored.data.spans] == [name, "inner"]
        assert stored.data.spans[0].outputs == [1, 2]
        assert stored.info.state == "OK"
        assert json.loads(stored.info.request_preview) == {"question": name}
    assert set(traces[0].info.tags) == set(traces[1].info.tags)
    assert set(traces[0].info.trace_metadata) == set(traces[1].info.trace_metadata)
