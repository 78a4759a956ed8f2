"""What every benchmark shares: its databases, its clock, servers, and Markdown tables.

Figures are medians of calls that alternate in one process, so that other work on the machine slows
all methods alike.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import os
import resource
import signal
import socket
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import requests
from psycopg import sql

from benchmarks.databases import clone, without_flushes
from mlflow_timescale import db
from mlflow_timescale.db.embedded import keywords, temporary
from mlflow_timescale.db.uri import DatabaseURI

FOLDER = Path(__file__).parent
START_TIMEOUT = 120  # seconds for an HTTP server to start


def benchmarks() -> dict[str, str]:
    """Every module that runs with `python -m`, and the first line of its docstring."""
    found = {}
    for path in sorted(FOLDER.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if 'if __name__ == "__main__":' in text and path.parent != FOLDER:
            parts = path.relative_to(FOLDER.parent).with_suffix("").parts
            name = ".".join(part for part in parts if part != "__main__")
            found[name] = (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]
    return found


# Options and databases


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with `--uri`, described by a module's docstring."""
    result = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument(
        "--uri", help="a server on which databases may be created; default: a new embedded one"
    )
    return result


@contextmanager
def server(uri: str | None, *, durable: bool = True) -> Iterator[DatabaseURI]:
    """The server of `--uri`, or an embedded one for the length of the block.

    One that is not durable leaves its writes to the operating system: for results, not for times.
    """
    if uri:
        yield DatabaseURI.parse(uri)
        return
    with temporary() as embedded:
        if not durable:
            without_flushes(embedded)
        yield embedded


@contextmanager
def new_database(
    on: DatabaseURI, kind: str = "ours", template: DatabaseURI | None = None
) -> Iterator[DatabaseURI]:
    """An empty database, or a copy of `template`, that is dropped after the block.

    Connections to the template are ended: PostgreSQL copies no database that is in use.
    """
    name = f"bench_{kind}_{uuid.uuid4().hex[:8]}"
    source = str(keywords(template)["dbname"]) if template else "template1"
    with db.connect(on, autocommit=True) as admin:
        if template is not None:
            admin.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
                [source],
            )
        clone(admin, name, source)
    try:
        yield on.with_database(name)
    finally:
        with db.connect(on, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


# Time


def seconds(
    action: Callable[[int], object],
    calls: range = range(1),
    *,
    clock: Callable[[], float] = time.perf_counter,
    collect: bool = True,
) -> float:
    """Seconds per call of `action(i)` for every i in `calls`, garbage collected before the first.

    `clock` is `time.process_time` for the processor's time. Without `collect`, the processor's
    caches stay warm, as in a loop of calls.
    """
    if collect:
        gc.collect()
    start = clock()
    for number in calls:
        action(number)
    return (clock() - start) / len(calls)


def alternating(number: int, count: int = 2) -> Sequence[int]:
    """The order of a turn: each method pays for the garbage of another one in every second turn."""
    return range(count) if number % 2 else range(count)[::-1]


class Cost(NamedTuple):
    """Seconds of wall time, and of processor time of this process and the database together.

    On a busy machine only the second is reliable.
    """

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.3f} | {self.cpu:.3f}"


class Meter:
    """Measures calls against one database; includes the server's processor time if it is local."""

    def __init__(self, uri: DatabaseURI) -> None:
        self._conn = db.connect(uri, autocommit=True)

    def __call__(self, call: Callable[[], object]) -> Cost:
        used = self._cpu()
        wall = seconds(lambda _: call())
        return Cost(wall, self._cpu() - used)

    def alternate(
        self, methods: Mapping[str, Callable[[], object]], rounds: int
    ) -> dict[str, Cost]:
        """The median cost of each method, taken in turns."""
        costs: dict[str, list[Cost]] = {name: [] for name in methods}
        for _ in range(rounds):
            for name, call in methods.items():
                costs[name].append(self(call))
        return {name: self._median(taken) for name, taken in costs.items()}

    @staticmethod
    def _median(taken: list[Cost]) -> Cost:
        return Cost(*(statistics.median(part) for part in zip(*taken, strict=True)))

    def _cpu(self) -> float:
        backends = self._conn.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        ).fetchall()
        ticks = sum(_ticks(pid) for (pid,) in backends)
        return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> int:
    """Processor ticks of a process on this machine; 0 if there is none with this id."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def peak_memory() -> float:
    """The largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def stopwatch(label: str) -> Iterator[None]:
    """Print wall time, processor time and peak memory of a block."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{label:44} {wall:8.2f} s  cpu {cpu:7.2f} s  peak {peak:6.0f} MB", flush=True)


# Servers


@contextmanager
def served(command: Sequence[str], folder: Path, **environment: str) -> Iterator[str]:
    """The URL of an MLflow server: `command --port PORT`, stopped after the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--workers", "1"],
        cwd=folder,
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_healthy(url, process)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_TIMEOUT
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{url}/health", timeout=5).ok:
                return
        time.sleep(0.2)
    raise RuntimeError(f"the server at {url} did not start: {process.args!r}")
