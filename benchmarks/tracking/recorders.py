"""qlib's list of 10,000 recorders: one search of all runs of an experiment, ours and MLflow's.

    python -m benchmarks.tracking.recorders [--uri URI] [--runs 10000] [--repeats 3]

qlib finds recorders by `search_runs(max_results=50000)`, and makes one MlflowClient for each. Every
run has 10 metrics, 10 params and 8 tags. Where qlib is installed, `R.list_recorders` follows. The
processor's time is that of the client and of its connections to the server. benchmarks/tracking.md
has the latest table.
"""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import ViewType

from benchmarks import harness
from benchmarks.databases import vanilla_url
from benchmarks.harness import Cost, Meter
from benchmarks.tracking.sides import Side, drop, fill_runs, make_sides

MOST = 50_000  # qlib's MLflowExperiment.UNLIMITED
NAMES = (
    "INSERT INTO tags (run_uuid, key, value) SELECT run_uuid, 'mlflow.runName', name FROM runs"
    " ON CONFLICT DO NOTHING"
)


def store_call(side: Side) -> Any:
    return side.store.search_runs(["0"], "", ViewType.ACTIVE_ONLY, MOST)


def client_call(side: Side) -> Any:
    return MlflowClient(address(side)).search_runs("0", max_results=MOST)


def qlib_call(side: Side) -> Any:
    from qlib.workflow.expm import MLflowExpManager  # type: ignore[import-untyped]

    manager = MLflowExpManager(address(side), "Default")
    return manager.get_exp(experiment_name="Default").list_recorders()


def address(side: Side) -> str:
    return side.uri.url if side.name == "ours" else vanilla_url(side.uri)


def calls() -> dict[str, Callable[[Side], Any]]:
    named: dict[str, Callable[[Side], Any]] = {
        "store.search_runs": store_call,
        "MlflowClient.search_runs": client_call,
    }
    if importlib.util.find_spec("qlib"):
        named["qlib: list_recorders"] = qlib_call
    return named


def line(name: str, runs: int, ours: Cost, theirs: Cost) -> None:
    print(
        f"| {name}, {runs:,} runs | {ours.wall:.2f} | {theirs.wall:.2f} | {ours.cpu:.2f}"
        f" | {theirs.cpu:.2f} | {theirs.cpu / ours.cpu:.1f} |",
        flush=True,
    )


def compare(sides: list[Side], call: Callable[[Side], Any], repeats: int) -> list[Cost]:
    """Median costs of both sides, in turns; the first turn of each does not count."""
    costs: list[list[Cost]] = [[] for _ in sides]
    gc.freeze()
    for _ in range(repeats + 1):
        for side, taken in zip(sides, costs, strict=True):
            taken.append(Meter(side.uri)(partial(call, side)))
    return [Meter._median(taken[1:]) for taken in costs]


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with harness.server(args.uri, durable=False) as server:
        sides = make_sides(server)
        try:
            for side in sides:
                fill_runs(side, args.runs, metrics=10, params=10, tags=7)
                side.conn.execute(NAMES)
                side.conn.execute("VACUUM ANALYZE")
            print("| | wall s: ours | MLflow | cpu s: ours | MLflow | ratio of cpu |")
            print("|---|--:|--:|--:|--:|--:|")
            for name, call in calls().items():
                line(name, args.runs, *compare(sides, call, args.repeats))
        finally:
            drop(server, sides)


if __name__ == "__main__":
    main()
