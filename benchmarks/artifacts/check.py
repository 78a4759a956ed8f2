"""What the check of a download costs, and what bounds it: one large file on every path.

    python -m benchmarks.artifacts.check [--megabytes 500] [--repeat 5] [--no-proxy]

With and without the hash in turns, medians; in the same run what no implementation gets round: the
SHA-256 alone, a copy within the page cache, and a bare COPY of the same chunks into the database.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from mlflow.artifacts import download_artifacts
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from benchmarks import harness
from benchmarks.harness import new_database, seconds, served
from mlflow_timescale import db, schema
from mlflow_timescale.artifacts import checked, hashing, in_database
from mlflow_timescale.db.uri import DatabaseURI

CHUNK = 1 << 20
COPY_IN = "COPY bare (content_id, number, data) FROM STDIN (FORMAT binary)"
# Imported by the interpreters of the server that does not check.
UNCHECKED = """
import sys
from importlib.abc import MetaPathFinder

class Patch(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "mlflow.server.fastapi_app":
            from mlflow_timescale.artifacts import hashing, in_database
            hashing.BackgroundHasher.update = lambda *_: None
            in_database.InDatabaseRepository._check_all = lambda *_: None

sys.meta_path.insert(0, Patch())
"""


class NoHash(hashing.BackgroundHasher[hashing.Hasher]):
    """Stands in for the hasher, to see what hashing costs."""

    def update(self, key: object, data: bytes) -> None:
        pass


class Times:
    """Seconds by row and column; what is measured takes turns."""

    def __init__(self) -> None:
        self.taken: dict[tuple[str, str], list[float]] = {}

    def take(self, row: str, column: str, action: Callable[[], object]) -> None:
        self.taken.setdefault((row, column), []).append(seconds(lambda _: action()))

    def print(self) -> None:
        print("| what | checked | unchecked | the check costs |")
        print("|---|---|---|---|")
        for row in dict.fromkeys(row for row, _ in self.taken):
            found = {name: statistics.median(t) for (r, name), t in self.taken.items() if r == row}
            yes, no = found.get("checked"), found.get("unchecked")
            cost = f"{yes / no - 1:+.0%}" if yes and no else ""
            print(f"| {row} | {_seconds(yes)} | {_seconds(no)} | {cost} |")


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--no-proxy", action="store_true")
    given = parser.parse_args()
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    times = Times()
    with (
        tempfile.TemporaryDirectory() as directory,
        harness.server(given.uri) as server,
        new_database(server) as uri,
        contextlib.ExitStack() as stack,
    ):
        root = Path(directory)
        schema.prepare(uri.url)
        file = root / "model.pkl"
        file.write_bytes(pickle.dumps(np.frombuffer(os.urandom(given.megabytes << 20), np.uint8)))
        stored = in_database.InDatabaseRepository("timescaledb-artifacts:/1", uri)
        local = LocalArtifactRepository(f"file://{root}/store")
        wrapped = checked.wrap(local, f"sha256+file://{root}/store", uri)
        servers = {} if given.no_proxy else start_servers(stack, uri, root)
        for turn in range(given.repeat):
            columns = ("checked", "unchecked") if turn % 2 else ("unchecked", "checked")
            floors(times, file, root, uri)
            times.take(
                "upload into the database", "checked", lambda: stored.log_artifact(str(file))
            )
            wrapped.log_artifact(str(file))
            vacuum(uri)
            downloads(times, columns, root, stored, wrapped, local)
            for column in columns if servers else ():
                action = lambda: proxied(servers[column], root)  # noqa: B023, E731
                times.take("download through the server", column, action)
            stored.delete_artifacts()
        times.print()


def floors(times: Times, file: Path, root: Path, uri: DatabaseURI) -> None:
    times.take("floor: SHA-256 of the file", "unchecked", lambda: hashing.hash_file(file))
    times.take("floor: copy of the file", "unchecked", lambda: shutil.copy(file, root / "copy"))
    with db.connect(uri, autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS bare")
        conn.execute("CREATE TABLE bare (LIKE mlops.artifact_chunks INCLUDING ALL)")
        conn.execute("CHECKPOINT")
        times.take("floor: bare COPY into the database", "unchecked", lambda: copy_in(conn, file))
        conn.execute("DROP TABLE bare")
        conn.execute("CHECKPOINT")


def copy_in(conn: db.Connection, file: Path) -> None:
    with file.open("rb", buffering=0) as stream, conn.cursor().copy(COPY_IN) as copy:
        copy.set_types(("int8", "int4", "bytea"))
        for number, data in enumerate(hashing.blocks(stream, CHUNK)):
            copy.write_row((1, number, data))


def vacuum(uri: DatabaseURI) -> None:
    with db.connect(uri, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE mlops.artifact_chunks")


def downloads(
    times: Times,
    columns: tuple[str, ...],
    root: Path,
    stored: in_database.InDatabaseRepository,
    wrapped: checked.CheckedRepository,
    local: LocalArtifactRepository,
) -> None:
    stored.fingerprint("model.pkl")  # fill the cache, which the first read would pay for
    for column in columns:
        with contextlib.ExitStack() as stack:
            if column == "unchecked":
                stack.enter_context(mock.patch.object(in_database, "BackgroundHasher", NoHash))
                stack.enter_context(mock.patch.object(type(stored), "_check_all"))
            with empty(root) as target:
                action = lambda: stored.download_artifacts("model.pkl", target)  # noqa: E731
                times.take("download from the database", column, action)
    for column in columns:
        files = wrapped if column == "checked" else local
        with empty(root) as target:
            action = lambda: files.download_artifacts("model.pkl", target)  # noqa: B023, E731
            times.take("download from local files", column, action)
        with empty(root):
            times.take("load a pickle from local files", column, lambda: load(files))  # noqa: B023


def load(repository: checked.CheckedRepository | LocalArtifactRepository) -> None:
    """As `load_model` does: MLflow's local repository gives out the stored file itself."""
    path = Path(repository.download_artifacts("model.pkl"))
    with path.open("rb") as stream:
        pickle.load(stream)
    if path.parent.name.startswith("mlflow-"):
        shutil.rmtree(path.parent)


@contextlib.contextmanager
def empty(root: Path) -> Iterator[str]:
    target = root / "arrived"
    target.mkdir()
    try:
        yield str(target)
    finally:
        shutil.rmtree(target)


def proxied(url: str, root: Path) -> None:
    with empty(root) as target:
        download_artifacts("mlflow-artifacts:/1/model.pkl", dst_path=target, tracking_uri=url)


def start_servers(stack: contextlib.ExitStack, uri: DatabaseURI, root: Path) -> dict[str, str]:
    """Two servers on the same database, one of which does not hash."""
    patch = root / "patch"
    patch.mkdir()
    (patch / "sitecustomize.py").write_text(UNCHECKED)
    program = "from mlflow_timescale.cli import main; main()"
    command = [sys.executable, "-c", program, "server", "--uri", uri.url]
    return {
        "checked": stack.enter_context(served(command, root)),
        "unchecked": stack.enter_context(served(command, root, PYTHONPATH=str(patch))),
    }


if __name__ == "__main__":
    main()
