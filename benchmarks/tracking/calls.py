"""The write calls that the tracking benchmarks time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlflow.entities import Metric, Param, RunTag

from benchmarks.tracking.sides import T0, Side

Call = Callable[[Side, int], Any]


def batches(keys: int, calls: int) -> Call:
    """log_batch of 1,000 points of `keys` series; the metrics are made beforehand."""
    each = 1000 // keys
    made = [
        [
            Metric(f"k{keys}_{j % keys}", float(j), T0 + step, step)
            for j in range(1000)
            for step in (i * each + j // keys,)
        ]
        for i in range(calls)
    ]
    return lambda side, i: side.store.log_batch(side.run, made[i], [], [])


def single_calls(calls: int) -> dict[str, Call]:
    turns = range(calls)
    params = [[Param(f"p{i}_{j}", "v") for j in range(100)] for i in turns]
    tags = [[RunTag(f"t{j}", str(i)) for j in range(100)] for i in turns]
    return {
        "log_metric": lambda s, i: s.store.log_metric(s.run, Metric("one", 1.0, T0 + i, i)),
        "log_param": lambda s, i: s.store.log_param(s.run, Param(f"one{i}", "v")),
        "set_tag": lambda s, i: s.store.set_tag(s.run, RunTag("one", str(i))),
        "log_batch, 100 params": lambda s, i: s.store.log_batch(s.run, [], params[i], []),
        "log_batch, 100 tags": lambda s, i: s.store.log_batch(s.run, [], [], tags[i]),
        "create_run": lambda s, i: s.store.create_run("0", "me", i, [RunTag("a", "b")], "r"),
    }
