"""The tracking calls through `mlflow server`: the part `http` of `benchmarks.tracking`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from mlflow import MlflowClient
from mlflow.entities import Metric, ViewType

from benchmarks.databases import vanilla_url
from benchmarks.harness import served
from benchmarks.tracking.sides import FIRST_RUN, T0, Side, compare, floor_of, report


@contextmanager
def client_of(side: Side) -> Iterator[MlflowClient]:
    """A client of `mlflow server` on a side's database."""
    uri = side.uri.url if side.name == "ours" else vanilla_url(side.uri)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
        with served([*command, "--default-artifact-root", folder], Path(folder)) as url:
            yield MlflowClient(url)


def over_http(sides: list[Side], repeats: int) -> None:
    with client_of(sides[0]) as ours, client_of(sides[1]) as theirs:
        clients = {"ours": ours, "mlflow": theirs}

        def batch(side: Side, i: int) -> None:
            points = [
                Metric(f"h{j % 10}", float(j), T0 + i, i * 100 + j // 10) for j in range(1000)
            ]
            clients[side.name].log_batch(side.run, points)

        def chart(side: Side, i: int) -> None:
            url = clients[side.name].tracking_uri
            query = {"run_ids": side.long, "metric_key": "loss", "max_results": 320}
            requests.get(
                f"{url}/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval", query, timeout=60
            ).raise_for_status()

        def direct(call: Callable[[Any], Any]) -> Callable[[int], Any]:
            return lambda i: call(sides[0].store)

        run = sides[0].run
        calls: list[tuple[str, Callable[[Side, int], Any], Callable[[Any], Any]]] = [
            (
                "log_batch, 1,000 points of 10 series",
                batch,
                lambda store: store.log_batch(
                    run, [Metric(f"d{j % 10}", float(j), T0, j // 10) for j in range(1000)], [], []
                ),
            ),
            (
                "log_metric",
                lambda s, i: clients[s.name].log_metric(s.run, "h", 1.0, T0 + i, i),
                lambda store: store.log_metric(run, Metric("d", 1.0, T0, 1)),
            ),
            (
                "search_runs, 100",
                lambda s, i: clients[s.name].search_runs(["0"], max_results=100),
                lambda store: store.search_runs(["0"], "", ViewType.ACTIVE_ONLY, 100),
            ),
            (
                "get_run",
                lambda s, i: clients[s.name].get_run(FIRST_RUN),
                lambda store: store.get_run(FIRST_RUN),
            ),
            (
                "chart",
                chart,
                lambda store: store.get_metric_history_bulk_interval(
                    [sides[0].long], "loss", 320, None, None
                ),
            ),
        ]
        for name, call, native in calls:
            ours_ms, theirs_ms = compare(sides, call, repeats)
            floor = max(ours_ms - floor_of(direct(native), repeats), 0)
            report(f"HTTP: {name}", ours_ms, theirs_ms, floor)
