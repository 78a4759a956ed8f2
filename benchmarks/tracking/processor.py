"""Processor time of the hot tracking calls, of client and server.

    python -m benchmarks.tracking.processor [--uri URI] [--repeats 21]

Other work on the machine has little influence on it. The server has to be on this machine. See
`benchmarks.tracking` for the wall time of the calls.
"""

from __future__ import annotations

import time
from pathlib import Path

from mlflow.entities import ViewType

from benchmarks import harness
from benchmarks.tracking.calls import Call, batches, single_calls
from benchmarks.tracking.sides import FIRST_RUN, Side, drop, fill_runs, make_sides

WARM = 10  # calls: PostgreSQL plans a statement again for each of its first five executions


def processor(sides: list[Side], repeats: int) -> None:
    """Print the processor time of the hot calls."""
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
    parser = harness.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=21)
    arguments = parser.parse_args()
    with harness.server(arguments.uri) as server:
        sides = make_sides(server)
        try:
            processor(sides, arguments.repeats)
        finally:
            drop(server, sides)


if __name__ == "__main__":
    main()
