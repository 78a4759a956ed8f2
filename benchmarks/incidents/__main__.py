"""Twelve kinds of fault in serving, planted in a strategy on real prices, and healthy strategies.

    python -m benchmarks.incidents --seeds 20 --results incidents.jsonl
    python -m benchmarks.incidents --results incidents.jsonl --tables

Each seed chooses a window of the prices of 20 S&P 500 stocks, and the day, feature, names and size
of each fault. The monitor's reference is the first 100 sessions; the fault begins 10 sessions
later. The daily job runs every evening until it shows the fault; then the sessions that remain are
served, and the monitor is asked what it was. `--healthy` strategies serve ten healthy months each.

`--results` gets a line for each trial. A second run continues where the first one stopped, and
`--tables` prints the tables of all lines.
"""

from __future__ import annotations

import json
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.incidents import tables
from benchmarks.incidents.faults import FAULTS
from benchmarks.incidents.trial import Trial, healthy
from mlflow_timescale.db.uri import DatabaseURI


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="trials of each kind")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--healthy", type=int, default=20, help="strategies of ten months each")
    parser.add_argument("--results", type=Path, help="a line for each trial")
    parser.add_argument("--tables", action="store_true", help="print the tables, run nothing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = arguments.results or Path(folder, "incidents.jsonl")
        if not arguments.tables:
            with harness.server(arguments.uri, durable=False) as server:
                seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
                for row in run(server, results, seeds, arguments.kinds, arguments.healthy):
                    with results.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
        print(tables.of(tables.read(results)))


def run(
    server: DatabaseURI, results: Path, seeds: range, kinds: list[str], strategies: int
) -> Iterator[dict[str, Any]]:
    """The trials whose lines are not in the results, and after each seed a healthy strategy."""
    done = {(row["kind"], row["seed"]) for row in tables.read(results)}
    for seed in seeds:
        missing = [kind for kind in kinds if (kind, seed) not in done]
        if missing:
            yield from _faults(server, seed, missing)
        if seed < strategies and ("healthy", seed) not in done:
            with harness.new_database(server) as uri:
                yield {"kind": "healthy", **asdict(healthy(uri, seed))}


def _faults(server: DatabaseURI, seed: int, kinds: list[str]) -> Iterator[dict[str, Any]]:
    with harness.new_database(server) as base:
        trial = Trial(base, seed)
        trial.prepare()
        trial.close()
        for kind in kinds:
            with harness.new_database(server, template=base) as uri:
                yield _judged(Trial(uri, seed), kind)


def _judged(trial: Trial, kind: str) -> dict[str, Any]:
    try:
        return trial.judge(kind).to_dict()
    except Exception:  # a trial that fails is a row, and the others go on
        return {"kind": kind, "seed": trial.seed, "error": traceback.format_exc()}
    finally:
        trial.close()


if __name__ == "__main__":
    main()
