"""Runs that differ in everything one can search for."""

from __future__ import annotations

import itertools
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from sqlalchemy import text


def start_runs(pair: Any) -> list[str]:
    """Start them in both stores, in two experiments; some are deleted."""
    experiments = [pair.call("create_experiment", name) for name in ("searched", "other")]
    names = itertools.count()
    for number in range(24):
        run = pair.run(
            f"run {next(names)}",
            experiments[number % 2],
            start_time=100 + number // 3,
            user_id=f"user{number % 3}",
            tags=[RunTag("kind", "abc"[number % 3]), *([RunTag("half", "x")] * (number % 2))],
        )
        metrics = [Metric("m", float(number % 5), 1, 1), Metric("a b/ü", -number, 1, 1)]
        if number % 7 == 0:
            metrics = [Metric("m", float("nan"), 1, 1)]
        params = [Param("p", f"v{number % 4}")] if number % 4 else []
        pair.call("log_batch", run, metrics, params, [])
        pair.call("log_inputs", run, datasets(number), None)
        if number % 5 == 0:
            pair.call("update_run_info", run, 3, 500 + number, f"renamed {number}")
        if number % 6 == 0:
            pair.call("delete_run", run)
    # With statistics the planner joins otherwise: what then differs has no order in either store.
    for store in (pair.theirs, pair.ours):
        with store.engine.connect() as conn:
            conn.execute(text("ANALYZE"))
            conn.commit()
    return experiments


def datasets(number: int) -> list[DatasetInput]:
    dataset = Dataset(f"data{number % 3}", f"digest{number % 2}", "local", "somewhere", "s", "p")
    tags = [InputTag("mlflow.data.context", ("train", "test")[number % 2]), InputTag("t", "1")]
    return [DatasetInput(dataset, tags)] + [
        DatasetInput(Dataset("both", "d", "local", "x"), [InputTag("mlflow.data.context", "train")])
    ] * (number % 4 == 0)
