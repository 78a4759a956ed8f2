"""Every recorder of an experiment judged, beside pandas' groupby().corr() for the IC alone.

Recorders are logged into a new database with their pickles, as qlib's SignalRecord writes them. The
naive loop unpickles the same bytes, and computes the rank IC of each session by groupby and
corr(method="spearman"): no PSI, no Sharpe ratio, no rules, no onset, no page.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd

from benchmarks.harness import Cost, new_database, parser, seconds, server
from drift.retrospect.places import Place
from drift.retrospect.recorders import FILES
from mlflow_timescale.cli import main
from mlflow_timescale.operations.bringing.run_list import ListedRun, list_runs

EXPERIMENT = "alpha158"
FALLS = 4  # one of four models decays


def files(seed: int, sessions: int, names: int) -> dict[str, bytes]:
    """The pickles of one recorder; a model that decays does so after three quarters."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(sessions, names))
    skill = np.full((sessions, 1), 0.05)
    if seed % FALLS == 0:
        skill[sessions * 3 // 4 :] = 0.0
    labels = 0.02 * (skill * scores + rng.normal(size=scores.shape))
    index = pd.MultiIndex.from_product(
        [
            pd.bdate_range("2020-01-01", periods=sessions),
            [f"SH{600000 + number}" for number in range(names)],
        ],
        names=["datetime", "instrument"],
    )
    frames = (
        pd.DataFrame({"score": scores.ravel()}, index),
        pd.DataFrame({"LABEL0": labels.ravel()}, index),
    )
    return {name: pickle.dumps(frame, 4) for name, frame in zip(FILES, frames, strict=True)}


def log(uri: str, recorders: int, sessions: int, names: int) -> None:
    """Log recorders; their contents repeat after eight, so that making them takes no hour."""
    made = [files(seed, sessions, names) for seed in range(min(recorders, 2 * FALLS))]
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    experiment = client.create_experiment(EXPERIMENT)
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(recorders):
            for name, data in made[number % len(made)].items():
                Path(scratch, name).write_bytes(data)
            run = client.create_run(experiment, run_name=f"model {number}")
            client.log_artifacts(run.info.run_id, scratch)


def naive(uri: str, runs: list[ListedRun]) -> Iterator[float]:
    """The mean rank IC of each recorder, as a notebook computes it."""
    for run in runs:
        place = Place(run.place, uri)
        scores, labels = (pickle.loads(place.read(name) or b"") for name in FILES)
        joined = scores.join(labels)
        by_session = joined.groupby(level="datetime").apply(
            lambda day: day["score"].corr(day["LABEL0"], method="spearman")
        )
        yield float(by_session.mean())


def judge(uri: str, page: Path) -> str:
    """Run the command; returns its last lines."""
    printed = StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        main(["drift", "from-qlib", EXPERIMENT, "--uri", uri, "-o", str(page)])
    return "\n".join(printed.getvalue().splitlines()[-2:])


def run() -> None:
    options = parser(__doc__)
    options.add_argument("--recorders", type=int, default=200)
    options.add_argument("--sessions", type=int, default=500)
    options.add_argument("--names", type=int, default=300)
    options.add_argument("--naive", type=int, default=10, help="recorders of the naive loop")
    arguments = options.parse_args()
    with server(arguments.uri, durable=False) as on, new_database(on) as database:
        uri = database.url
        log(uri, arguments.recorders, arguments.sessions, arguments.names)
        runs = list_runs(uri, print)
        some = runs[: arguments.naive]
        with tempfile.TemporaryDirectory() as scratch:
            page = Path(scratch, "page.html")
            last: list[str] = []
            ours = cost(lambda: last.append(judge(uri, page)), len(runs))
            slow = cost(lambda: list(naive(uri, some)), len(some))
            size = page.stat().st_size
    print(last[0])
    print(f"{len(runs)} recorders of {arguments.sessions} sessions x {arguments.names} names")
    print("| a recorder | wall | processor |\n|---|--:|--:|")
    print(f"| drift from-qlib, everything | {ours.wall:.3f} s | {ours.cpu:.3f} s |")
    print(f"| groupby().corr(), the IC alone | {slow.wall:.3f} s | {slow.cpu:.3f} s |")
    print(f"all: {ours.wall * len(runs):.1f} s; processor {ours.cpu / slow.cpu:.2f} of the naive")
    print(f"page {size / 1e6:.1f} MB; load {os.getloadavg()[0]:.1f}")


def processor() -> float:
    """Processor seconds of this process and of those that it waited for, without the server."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def cost(action: Callable[[], object], recorders: int) -> Cost:
    """What an action costs for each recorder."""
    begin = processor()
    wall = seconds(lambda _: action())
    return Cost(wall / recorders, (processor() - begin) / recorders)


if __name__ == "__main__":
    run()
