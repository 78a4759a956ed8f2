"""Artifacts beside MLflow's plain repository: many small files and one large one, up and down.

    python benchmarks/artifacts.py [--uri URI] [--megabytes 1024] [--repeat 3]

The repositories take turns in one process, so that a busy machine slows them alike; medians, and
the ratio to MLflow's own local repository. "unchecked" is the in-database download without the
hash: what the check costs.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from mlflow_timescale import db, schema
from mlflow_timescale.artifacts import checked, hashing, in_database
from mlflow_timescale.db.embedded import temporary
from mlflow_timescale.db.uri import DatabaseURI

PLAIN, WRAPPED, STORED, UNCHECKED = (
    "file: (MLflow)",
    "sha256+file:",
    "timescaledb-artifacts:",
    "timescaledb-artifacts:, unchecked",
)


class NoHash(hashing.BackgroundHasher[hashing.Hasher]):
    """Stands in for the hasher, to see what hashing costs."""

    def update(self, key: object, data: bytes) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--uri", default=None)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    where = contextlib.nullcontext(DatabaseURI.parse(given.uri)) if given.uri else temporary()
    with tempfile.TemporaryDirectory() as directory, where as uri:
        root = Path(directory)
        schema.prepare(uri.url)
        (root / "small").mkdir()
        for number in range(given.files):
            (root / "small" / f"{number}.json").write_bytes(os.urandom(512).hex().encode())
        (root / "large").mkdir()
        with (root / "large" / "model.bin").open("wb") as file:
            for _ in range(given.megabytes):
                file.write(os.urandom(1 << 20))
        print("| what | direction | store | seconds | ratio |")
        print("|---|---|---|---|---|")
        measure(root, uri, "small", f"{given.files} x 1 KB", given.repeat)
        measure(root, uri, "large", f"1 x {given.megabytes} MB", given.repeat)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nPeak memory of this process: {peak:.0f} MB.")


def measure(root: Path, uri: DatabaseURI, folder: str, what: str, repeat: int) -> None:
    """Time each store's upload and download in turn."""
    times: dict[tuple[str, str], list[float]] = {}
    for turn in range(repeat):
        for name, repository in repositories(root, uri, f"{folder}/{turn}").items():
            if name != UNCHECKED:
                up = timed(lambda: repository.log_artifacts(str(root / folder)))  # noqa: B023
                times.setdefault(("up", name), []).append(up)
        with db.connect(uri, autocommit=True) as conn:
            conn.execute("VACUUM ANALYZE mlops.artifact_chunks")
        for name, repository in repositories(root, uri, f"{folder}/{turn}").items():
            times.setdefault(("down", name), []).append(download(root, name, repository))
        for name, repository in repositories(root, uri, f"{folder}/{turn}").items():
            if name in (PLAIN, STORED):
                repository.delete_artifacts()
        shutil.rmtree(root / "wrapped", ignore_errors=True)
    for (direction, name), taken in times.items():
        median = statistics.median(taken)
        ratio = median / statistics.median(times[direction, PLAIN])
        print(f"| {what} | {direction} | {name} | {median:.2f} | {ratio:.1f} |", flush=True)


def repositories(root: Path, uri: DatabaseURI, path: str) -> dict[str, ArtifactRepository]:
    wrapped = LocalArtifactRepository(f"file://{root}/wrapped/{path}")
    stored = in_database.InDatabaseRepository(f"timescaledb-artifacts:/{path}", uri)
    return {
        PLAIN: LocalArtifactRepository(f"file://{root}/plain/{path}"),
        WRAPPED: checked.wrap(wrapped, f"sha256+file://{root}/wrapped/{path}", uri),
        STORED: stored,
        UNCHECKED: stored,
    }


def download(root: Path, name: str, repository: ArtifactRepository) -> float:
    target = root / "arrived"
    target.mkdir()
    try:
        if name == UNCHECKED:
            with (
                mock.patch.object(in_database, "BackgroundHasher", NoHash),
                mock.patch.object(in_database.InDatabaseRepository, "_check_all"),
            ):
                return timed(lambda: repository.download_artifacts("", str(target)))
        return timed(lambda: repository.download_artifacts("", str(target)))
    finally:
        shutil.rmtree(target)


def timed(action: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
