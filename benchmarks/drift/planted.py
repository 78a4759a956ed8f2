"""Planted faults, found through the public interface: when alerts open, and when they close.

    python -m benchmarks.drift.planted --seeds 20 --results planted.jsonl


A market of 60 names with four features made from prices is written to a feature store, served as
signals and judged by a monitor whose reference is the first 150 sessions. A fault begins on session
190. It is repaired on session 210, or never. `--results` appends a line per seed and fault, and a
second run continues where the first one stopped; the tables count all lines of the file.

The healthy sessions of a seed are computed once; each fault starts from a copy of that database.
`--daily` computes the sessions after the fault one by one, each with what is known by then.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

from benchmarks import harness
from benchmarks.drift.feed_faults import (
    DECAY,
    FAULTS,
    NOT_REPAIRED,
    UNREPAIRED,
    VERSION,
    Kind,
    Plan,
)
from benchmarks.drift.feed_tables import read, report
from benchmarks.drift.feed_trials import Key, Outcome, Trial, register, wrong_version
from mlflow_timescale.db.uri import DatabaseURI

# Values, judged as they are; values, judged by rank; ranks, judged as they are.
MARKETS = (("raw", "ranked"), ("ranks served",))
FEATURES = tuple(features for market in MARKETS for features in market)


def kinds(faults: Sequence[str], features: str) -> list[Kind]:
    """Each fault repaired, and those left as they are; faults without features for raw ones."""
    if features != "raw":
        faults = [fault for fault in faults if fault not in (VERSION, DECAY)]
    repaired = [Kind(fault, True) for fault in faults if fault not in NOT_REPAIRED]
    return [*repaired, *(Kind(fault, False) for fault in faults if fault in UNREPAIRED)]


def run(
    server: DatabaseURI,
    trials: Sequence[Trial],
    registry: DatabaseURI,
    chosen: Callable[[Trial], Sequence[Kind]],
    *,
    daily: bool = False,
) -> Iterator[Outcome]:
    """The faults in one market, which its trials judge by values or by ranks.

    Each starts from a copy of the healthy history; b from a copy of `registry`.
    """
    if not any(map(chosen, trials)):
        return
    with harness.new_database(server) as recorded:
        trials[0].uri = recorded
        trials[0].record()
        for trial in trials:
            kinds = chosen(trial)
            if any(kind.fault == VERSION for kind in kinds):
                with harness.new_database(server, template=registry) as uri:
                    yield from wrong_version(uri, trial)
            with harness.new_database(server, template=recorded) as trial.uri:
                trial.accept()
                if any(kind.fault == DECAY for kind in kinds):
                    trial.state_delays()
                for kind in kinds:
                    if kind.fault != VERSION:
                        with harness.new_database(server, template=trial.uri) as uri:
                            yield trial.judge(uri, kind, daily=daily)


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--calendars", nargs="+", default=["XNYS", "XSHG"])
    parser.add_argument("--features", nargs="+", choices=FEATURES, default=FEATURES)
    parser.add_argument("--faults", nargs="+", default=[VERSION, *FAULTS])
    parser.add_argument("--daily", action="store_true")
    parser.add_argument("--results", type=Path, help="a file that results are appended to")
    given = parser.parse_args()
    results = given.results or Path(tempfile.mkdtemp()) / "planted.jsonl"
    with (
        harness.server(given.uri, durable=False) as server,
        harness.new_database(server) as registry,
    ):
        register(registry)
        for seed, calendar in product(range(given.seeds), given.calendars):
            for market in MARKETS:
                trials = [
                    Trial(Plan(), calendar, seed, features, server)
                    for features in market
                    if features in given.features
                ]
                present = {o.key for o in read(results)}

                def chosen(trial: Trial, present: Container[Key] = present) -> list[Kind]:
                    every = kinds(given.faults, trial.features)
                    return [kind for kind in every if trial.key(kind) not in present]

                for outcome in run(server, trials, registry, chosen, daily=given.daily):
                    with results.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(outcome)) + "\n")
    print("\n".join(report(read(results))))


if __name__ == "__main__":
    main()
