"""An outage of the database while trainers log: who dies, what a step costs, what is lost.

    python -m benchmarks.tracking.outage                     # 64 trainers, an hour of steps of 1 s

Trainers are processes. Each logs one batch of metrics in each step. The database goes away after
the first step, and comes back after the last. `--steps` are logged in all, the first `--paced` of
them in steps of `--step` seconds, which give the times; the rest is logged without a pause, and
stands for the remaining hour. Plain MLflow takes the paced steps only. Then the spool is drained.
"""

from __future__ import annotations

import logging
import multiprocessing as mp
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.entities import Metric, RunTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from benchmarks import harness
from benchmarks.databases import Switch, vanilla_url
from mlflow_timescale import db
from mlflow_timescale.db import DatabaseURI
from mlflow_timescale.schema import prepare
from mlflow_timescale.spool import Spool
from mlflow_timescale.spool.senders import sender_of
from mlflow_timescale.tracking.opening import open_store

COUNT = "SELECT count(*), count(DISTINCT (run_uuid, key, step)) FROM metrics"
LAST_TAG = "SELECT count(*) FROM tags WHERE key = 'step' AND value = %s"
FINISHED = "SELECT count(*) FROM runs WHERE status = 'FINISHED'"
_fork = mp.get_context("fork")


@dataclass(frozen=True)
class Plan:
    """What each trainer does: steps in all, paced steps, seconds of one, metrics of one."""

    steps: int
    paced: int
    step: float
    metrics: int


def live(*arguments: Any) -> None:
    """A trainer that dies of an exception, without its traceback."""
    try:
        train(*arguments)
    except Exception:
        sys.exit(1)


def train(open_: Callable[[], Any], plan: Plan, away: Any, ready: Any, times: Any) -> None:
    """One trainer."""
    logging.disable(logging.CRITICAL)
    store = open_()
    run_id = store.create_run("0", "trainer", 1, [], "run").info.run_id
    log(store, run_id, 0, plan.metrics)
    ready.release()
    away.wait()
    taken = []
    for step in range(1, plan.paced):
        start = time.perf_counter()
        time.sleep(plan.step)
        before = time.perf_counter()
        log(store, run_id, step, plan.metrics)
        taken.append((before - start, time.perf_counter() - before))
    for step in range(plan.paced, plan.steps):
        log(store, run_id, step, plan.metrics)
    store.set_tag(run_id, RunTag("step", str(plan.steps - 1)))
    store.update_run_info(run_id, 3, 2, None)
    times.put(taken)


def log(store: Any, run_id: str, step: int, metrics: int) -> None:
    now = time.time_ns() // 1_000_000
    store.log_batch(
        run_id, [Metric(f"m{number}", float(step), now, step) for number in range(metrics)], [], []
    )


def outage(
    uri: DatabaseURI, switch: Switch, open_: Callable[[], Any], plan: Plan, trainers: int
) -> tuple[int, list[tuple[float, float]], float]:
    """How many trainers died, the seconds of each paced step and its log call, and of all."""
    away, ready, times = _fork.Event(), _fork.Semaphore(0), _fork.Queue()
    processes = [
        _fork.Process(target=live, args=(open_, plan, away, ready, times)) for _ in range(trainers)
    ]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    with switch.away():
        away.set()
        start = time.perf_counter()
        results = collect(processes, times)
        seconds = time.perf_counter() - start
    died = sum(process.exitcode != 0 for process in processes)
    return died, [step for result in results for step in result], seconds


def collect(processes: list[Any], times: Any) -> list[Any]:
    """What the trainers that live have put into the queue."""
    results = []
    while any(process.is_alive() for process in processes) or not times.empty():
        try:
            results.append(times.get(timeout=0.2))
        except Exception:  # empty
            continue
    for process in processes:
        process.join()
    return results


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--trainers", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--paced", type=int, default=30)
    parser.add_argument("--step", type=float, default=1.0, help="seconds of a paced step")
    parser.add_argument("--metrics", type=int, default=10, help="metrics of a step")
    options = parser.parse_args()
    plan = Plan(options.steps, options.paced, options.step, options.metrics)
    with harness.server(options.uri) as server:
        print("| | plain MLflow | with a spool |\n|---|---|---|")
        print_table(plain(server, plan, options.trainers), ours(server, plan, options.trainers))


def plain(server: DatabaseURI, plan: Plan, trainers: int) -> dict[str, str]:
    """MLflow's own store through the same outage, paced steps only."""
    with harness.new_database(server) as uri:
        url = vanilla_url(uri)
        SqlAlchemyStore(url, "/artifacts").engine.dispose()
        short = Plan(plan.paced, plan.paced, plan.step, plan.metrics)
        died, _, _ = outage(
            uri,
            Switch(server, uri.dbname),
            lambda: SqlAlchemyStore(url, "/artifacts"),
            short,
            trainers,
        )
    return {"trainers that died": f"{died} of {trainers}"}


def ours(server: DatabaseURI, plan: Plan, trainers: int) -> dict[str, str]:
    """Our store with a spool, and the drain."""
    with harness.new_database(server) as uri, tempfile.TemporaryDirectory() as folder:
        prepare(uri.url)
        separator = "&" if "?" in uri.url else "?"
        url = f"{uri.url}{separator}spool={folder}/spool&spool_limit=4096"
        died, steps, seconds = outage(
            uri,
            Switch(server, uri.dbname),
            lambda: open_store(url, "timescaledb-artifacts:/", None, False),
            plan,
            trainers,
        )
        rows = {
            "trainers that died": f"{died} of {trainers}",
            **of_steps(steps, plan),
            "appended in the outage, log_batch a second": f"{trainers * plan.steps / seconds:,.0f}",
        }
        return rows | drained(uri, Spool(Path(folder, "spool")), plan, trainers)


def of_steps(steps: list[tuple[float, float]], plan: Plan) -> dict[str, str]:
    """The cost of logging beside the step itself."""
    taken = np.array(steps)
    base, calls = taken[:, 0], taken[:, 1]
    return {
        f"a step of {plan.step:g} s without logging, median ms": f"{np.median(base) * 1e3:.1f}",
        "log_batch in the outage, median ms": f"{np.median(calls) * 1e3:.2f}",
        "log_batch in the outage, 99% ms": f"{np.percentile(calls, 99) * 1e3:.2f}",
        "step time, mean": f"+{100 * calls.mean() / base.mean():.2f}%",
        "step time, median": f"+{100 * statistics.median(calls / base):.2f}%",
    }


def drained(uri: DatabaseURI, spool: Spool, plan: Plan, trainers: int) -> dict[str, str]:
    """What the drain takes, and what the database has afterwards."""
    waiting = spool.status()
    start = time.perf_counter()
    result = spool.drain(sender_of(uri))
    seconds = time.perf_counter() - start
    expected = trainers * plan.steps * plan.metrics
    waited = trainers * (plan.steps - 1) * plan.metrics
    with db.connect(uri) as conn:
        stored, distinct = conn.execute(COUNT).fetchone() or (0, 0)
        [tags] = conn.execute(LAST_TAG, [str(plan.steps - 1)]).fetchone() or (0,)
        [finished] = conn.execute(FINISHED).fetchone() or (0,)
    return {
        "waiting, MB": f"{waiting.bytes / 1e6:,.0f}",
        "records, points": f"{result.total:,}, {waited:,}",
        "drained, points a second": f"{waited / seconds:,.0f}",
        "points lost": f"{expected - distinct:,}",
        "points doubled": f"{stored - distinct:,}",
        "records refused or dropped": f"{result.refused + waiting.dropped:,}",
        "runs whose last tag and status are the last": f"{min(tags, finished)} of {trainers}",
    }


def print_table(left: dict[str, str], right: dict[str, str]) -> None:
    for name in right:
        print(f"| {name} | {left.get(name, '')} | {right[name]} |")


if __name__ == "__main__":
    main()
