"""Processor time of the hot tracking calls, of client and server, which other work hardly blurs.

    python benchmarks/tracking_processor.py [URI] [--repeats 21]

The server has to be on this machine. See benchmarks/tracking.py for how long the calls take.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path

from mlflow.entities import ViewType
from tracking import Call, batches, single_calls
from tracking_sides import FIRST_RUN, Side, drop, fill_runs, make_sides

from mlflow_timescale.db.embedded import temporary
from mlflow_timescale.db.uri import DatabaseURI

WARM = 10  # calls: PostgreSQL plans a statement anew the first five times


def processor(sides: list[Side], repeats: int) -> None:
    """Processor time of the hot calls, which other work on the machine hardly blurs."""
    for side in sides:
        side.run = side.store.create_run("0", "me", 1, [], "written").info.run_id
        fill_runs(side, 1_000)
        side.conn.execute("VACUUM ANALYZE")
    often = WARM + repeats + 1
    calls = {
        "log_batch, 1,000 points of 10 series": batches(10, often),
        "log_batch, 1,000 points of 1,000 series": batches(1000, often),
        **single_calls(often),
        "get_run": lambda s, i: s.store.get_run(FIRST_RUN),
        "search_runs, 100": lambda s, i: s.store.search_runs(["0"], "", ViewType.ACTIVE_ONLY, 100),
    }
    print("| processor ms a call | client: ours | MLflow | server: ours | MLflow |")
    print("|---|--:|--:|--:|--:|")
    for name, call in calls.items():
        (a, x), (b, y) = (processor_of(side, call, repeats) for side in sides)
        print(f"| {name} | {a:.2f} | {b:.2f} | {x:.2f} | {y:.2f} |", flush=True)


def processor_of(side: Side, call: Call, repeats: int) -> tuple[float, float]:
    """Milliseconds of the client and of the server's backends (a server on this machine)."""
    for i in range(WARM):
        call(side, i)
    client, server = time.process_time(), backends(side)
    for i in range(WARM, WARM + repeats):
        call(side, i)
    client, server = time.process_time() - client, backends(side) - server
    return client / repeats * 1e3, server / repeats / 1e6


def backends(side: Side) -> float:
    pids = side.conn.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()"
    )
    return sum(float(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for (pid,) in pids)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("uri", nargs="?")
    parser.add_argument("--repeats", type=int, default=21)
    arguments = parser.parse_args()
    given = contextlib.nullcontext(DatabaseURI.parse(arguments.uri)) if arguments.uri else None
    with given or temporary() as server:
        sides = make_sides(server)
        try:
            processor(sides, arguments.repeats)
        finally:
            drop(server, sides)


if __name__ == "__main__":
    main()
