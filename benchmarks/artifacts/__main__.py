"""Artifacts beside MLflow's plain repository: many small files and one large one, up and down.

    python -m benchmarks.artifacts [--uri URI] [--megabytes 1024] [--repeat 3]

The repositories take turns in one process, so that a busy machine slows them alike; medians, and
the ratio to MLflow's own local repository. "unchecked" is the in-database download without the
hash: what the check costs.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from pathlib import Path
from unittest import mock

from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from benchmarks import harness
from benchmarks.harness import new_database, seconds
from mlflow_timescale import db, schema
from mlflow_timescale.artifacts import checked, hashing, in_database
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
    parser = harness.parser(__doc__)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    with (
        tempfile.TemporaryDirectory() as directory,
        harness.server(given.uri) as server,
        new_database(server) as uri,
    ):
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
    print(f"\nPeak memory of this process: {harness.peak_memory():.0f} MB.")


def measure(root: Path, uri: DatabaseURI, folder: str, what: str, repeat: int) -> None:
    """Time each store's upload and download in turn."""
    times: dict[tuple[str, str], list[float]] = {}
    for turn in range(repeat):
        for name, repository in repositories(root, uri, f"{folder}/{turn}").items():
            if name != UNCHECKED:
                up = seconds(lambda _: repository.log_artifacts(str(root / folder)))  # noqa: B023
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
                return seconds(lambda _: repository.download_artifacts("", str(target)))
        return seconds(lambda _: repository.download_artifacts("", str(target)))
    finally:
        shutil.rmtree(target)


if __name__ == "__main__":
    main()
