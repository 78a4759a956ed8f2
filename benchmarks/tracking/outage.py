"""An outage of the database while trainers log: who dies, what a step costs, what is lost.

    python -m benchmarks.tracking.outage          # 64 trainers, 3,600 steps, each of 0.1 s for 1 s

Trainers are processes. A step is a sleep and a little work, then one call with some metrics; every
100th step also sets a tag. Trainers without tracking run beside them: what a step takes anyway. The
database goes away after the first step, and comes back after the last one. Plain MLflow takes 30
steps only. Then the spool is drained, and plain log_batch writes a part of the same points.
"""

from __future__ import annotations

import logging
import multiprocessing as mp
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from mlflow.entities import Metric, RunTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from benchmarks import harness
from benchmarks.databases import Switch, vanilla_url
from mlflow_timescale import db
from mlflow_timescale.db import DatabaseURI
from mlflow_timescale.schema import prepare
from mlflow_timescale.spool import Drained, Spool
from mlflow_timescale.spool.senders import sender_of
from mlflow_timescale.tracking.opening import open_store

COUNT = "SELECT count(*), count(DISTINCT (run_uuid, key, step)) FROM metrics"
LAST_TAG = "SELECT count(*) FROM tags WHERE key = 'step' AND value = %s"
FINISHED = "SELECT count(*) FROM runs WHERE status = 'FINISHED'"
_fork = mp.get_context("fork")


@dataclass(frozen=True)
class Plan:
    """What each trainer does: steps, the seconds of one, and the metrics of a step, from and to."""

    trainers: int
    untracked: int
    steps: int
    step: float
    least: int
    most: int

    def metrics(self, step: int) -> int:
        """How many metrics a step logs."""
        return self.least + step % (self.most - self.least + 1)

    @property
    def points(self) -> int:
        """The points of all steps after the first one."""
        return self.trainers * sum(map(self.metrics, range(1, self.steps)))


class Steps(NamedTuple):
    """Seconds of each step: of its training, and of its log call."""

    training: list[float]
    calls: list[float]


def live(*arguments: Any) -> None:
    """A trainer that dies of an exception, without its traceback."""
    try:
        train(*arguments)
    except Exception:
        sys.exit(1)


def train(open_: Callable[[], Any] | None, plan: Plan, away: Any, ready: Any, times: Any) -> None:
    """One trainer; without tracking if it opens nothing."""
    logging.disable(logging.CRITICAL)
    store = open_() if open_ else None
    run_id = store.create_run("0", "trainer", 1, [], "run").info.run_id if store else ""
    log(store, run_id, 0, plan)
    ready.release()
    away.wait()
    # Trainers do not start their steps at one moment.
    time.sleep(plan.step * random.Random(os.getpid()).random())
    training, calls = [], []
    for step in range(1, plan.steps):
        start = time.perf_counter()
        time.sleep(plan.step)
        work()
        before = time.perf_counter()
        log(store, run_id, step, plan)
        training.append(before - start)
        calls.append(time.perf_counter() - before)
    if store:
        store.set_tag(run_id, RunTag("step", str(plan.steps - 1)))
        store.update_run_info(run_id, 3, 2, None)
    times.put((bool(store), Steps(training, calls)))


def work() -> None:
    """Half a millisecond: a process that does nothing is woken before all others."""
    end = time.thread_time() + 5e-4
    while time.thread_time() < end:
        pass


def log(store: Any, run_id: str, step: int, plan: Plan) -> None:
    if store is None:
        return
    now = time.time_ns() // 1_000_000
    metrics = [Metric(f"m{n}", step + n / 8, now, step) for n in range(plan.metrics(step))]
    store.log_batch(run_id, metrics, [], [])
    if step % 100 == 99:
        store.set_tag(run_id, RunTag("step", str(step)))


def outage(
    uri: DatabaseURI, switch: Switch, open_: Callable[[], Any], plan: Plan
) -> tuple[int, dict[bool, list[Steps]]]:
    """How many trainers died, and the steps of those with tracking, and of those without."""
    away, ready, times = _fork.Event(), _fork.Semaphore(0), _fork.Queue()
    processes = [
        _fork.Process(target=live, args=(opening, plan, away, ready, times))
        for opening in [open_] * plan.trainers + [None] * plan.untracked
    ]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    with switch.away():
        away.set()
        results = collect(processes, times)
    died = sum(process.exitcode != 0 for process in processes)
    return died, {
        is_tracked: [steps for tracked, steps in results if tracked == is_tracked]
        for is_tracked in (True, False)
    }


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
    parser.add_argument("--untracked", type=int, default=8, help="trainers without tracking")
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--step", type=float, default=0.1, help="seconds of a step")
    parser.add_argument("--least", type=int, default=2, help="metrics of a step, from")
    parser.add_argument("--most", type=int, default=5, help="and to")
    options = vars(parser.parse_args())
    with harness.server(options.pop("uri")) as server:
        plan = Plan(**options)
        print("| | plain MLflow | with a spool |\n|---|---|---|")
        print_table(plain(server, plan), ours(server, plan))


def plain(server: DatabaseURI, plan: Plan) -> dict[str, str]:
    """MLflow's own store through the same outage, a few steps."""
    with harness.new_database(server) as uri:
        url = vanilla_url(uri)
        SqlAlchemyStore(url, "/artifacts").engine.dispose()
        died, _ = outage(
            uri,
            Switch(server, uri.dbname),
            lambda: SqlAlchemyStore(url, "/artifacts"),
            replace(plan, steps=min(plan.steps, 30), untracked=0),
        )
    return {"trainers that died": f"{died} of {plan.trainers}"}


def ours(server: DatabaseURI, plan: Plan) -> dict[str, str]:
    """Our store with a spool, and the drain."""
    with harness.new_database(server) as uri, tempfile.TemporaryDirectory() as folder:
        prepare(uri.url)
        separator = "&" if "?" in uri.url else "?"
        url = f"{uri.url}{separator}spool={folder}/spool&spool_limit=4096"
        died, steps = outage(
            uri,
            Switch(server, uri.dbname),
            lambda: open_store(url, "timescaledb-artifacts:/", None, False),
            plan,
        )
        rows = {"trainers that died": f"{died} of {plan.trainers}", **of_steps(steps, plan)}
        rows |= drained(uri, Spool(Path(folder, "spool")), plan)
        return rows | logged_plainly(uri, plan)


def of_steps(steps: dict[bool, list[Steps]], plan: Plan) -> dict[str, str]:
    """The cost of logging, beside the training of the same step and the steps without tracking."""
    training, calls = (
        np.array([getattr(of, name) for of in steps[True]]) for name in Steps._fields
    )
    untracked = np.array([of.training for of in steps[False]])
    later = calls[:, 1:]
    base, mine = untracked.mean(), (training + calls).mean()
    return {
        f"a step of {plan.step * 1e3:g} ms without tracking, mean ms": f"{base * 1e3:.2f}",
        "the same with tracking": f"{mine * 1e3:.2f} (+{100 * (mine / base - 1):.2f}%)",
        "log_batch in the outage, mean ms": f"{calls.mean() * 1e3:.3f}",
        "median, 99% ms": f"{np.median(later) * 1e3:.3f}, {np.percentile(later, 99) * 1e3:.2f}",
        "the first one, which finds the database away, mean ms": f"{calls[:, 0].mean() * 1e3:.1f}",
        "log_batch beside the training of its step, mean": f"+{_percent(calls, training)}",
        "beside a step of 1 s, mean": f"+{_percent(calls, np.ones(1))}",
    }


def _percent(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> str:
    return f"{100 * part.mean() / whole.mean():.2f}%"


def drained(uri: DatabaseURI, spool: Spool, plan: Plan) -> dict[str, str]:
    """What the drain takes, and what the database has afterwards."""
    waiting, sender, meter = spool.status(), sender_of(uri), harness.Meter(uri)
    results: list[Drained] = []
    used = time.process_time()
    cost = meter(lambda: results.append(spool.drain(sender)))
    used = time.process_time() - used
    [result], points = results, plan.points
    expected = points + plan.trainers * plan.metrics(0)
    with db.connect(uri) as conn:
        stored, distinct = conn.execute(COUNT).fetchone() or (0, 0)
        [tags] = conn.execute(LAST_TAG, [str(plan.steps - 1)]).fetchone() or (0,)
        [finished] = conn.execute(FINISHED).fetchone() or (0,)
    micros = [1e6 * part / points for part in (used, cost.cpu - used)]
    return {
        "waiting, MB": f"{waiting.bytes / 1e6:,.0f}",
        "records, points": f"{result.total:,}, {points:,}",
        "drained, points a second": f"{points / cost.wall:,.0f}",
        "processor time for a point: client, server": f"{micros[0]:.1f}, {micros[1]:.1f} µs",
        "points lost": f"{expected - distinct:,}",
        "points doubled": f"{stored - distinct:,}",
        "records refused or dropped": f"{result.refused + waiting.dropped:,}",
        "runs whose last tag and status are the last": f"{min(tags, finished)} of {plan.trainers}",
    }


def logged_plainly(uri: DatabaseURI, plan: Plan) -> dict[str, str]:
    """Some of the same points by log_batch, in one process."""
    store = open_store(uri.url, "timescaledb-artifacts:/", None, False)
    run_id = store.create_run("0", "trainer", 1, [], "run").info.run_id
    steps = range(min(plan.steps, 1 + 4000 // plan.most))
    meter = harness.Meter(uri)

    def log_all() -> None:
        for step in steps:
            log(store, run_id, step, plan)

    cost = meter(log_all)
    points = sum(map(plan.metrics, steps))
    return {
        "log_batch without an outage, points a second": f"{points / cost.wall:,.0f}",
        "processor time for a point": f"{1e6 * cost.cpu / points:.1f} µs",
    }


def print_table(left: dict[str, str], right: dict[str, str]) -> None:
    for name in right:
        print(f"| {name} | {left.get(name, '')} | {right[name]} |")


if __name__ == "__main__":
    main()
