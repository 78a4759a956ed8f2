"""Copy the artifacts of runs and logged models into the ledger, with their checksums.

A run's files are copied, then its row and the model versions at its place point at the copies, in
one transaction. An interrupted call is continued by the next one: what is in the ledger with the
same checksum is not copied again, and a run that points at its copies is done.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast
from urllib.parse import unquote, urlsplit

from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_timescale import db
from mlflow_timescale.artifacts import ledger, opening
from mlflow_timescale.artifacts.databases import connection
from mlflow_timescale.artifacts.hashing import hash_file
from mlflow_timescale.artifacts.locations import CHECKED, IN_DATABASE, canonical, join, scheme
from mlflow_timescale.artifacts.repository import LedgeredRepository
from mlflow_timescale.db import Connection, DatabaseURI
from mlflow_timescale.db.rows import records

OnOwner = Callable[[int, int], None]
_queries = db.load("merging")


@dataclass(frozen=True)
class Owner:
    """A run or a logged model: where its artifacts are here and in the source.

    `place` is that of its experiment.
    """

    kind: str
    id: str
    location: str
    experiment_id: int
    place: str | None
    source: str | None = None

    @property
    def is_copied(self) -> bool:
        """Whether the artifacts here are copies already."""
        return _is_ledgered(self.location) and self.location != self.source

    @property
    def target(self) -> str:
        """Where the copies are: at the place of the experiment if it has a ledger, else in here."""
        if self.is_copied:
            return self.location
        is_ledgered = self.place is not None and _is_ledgered(self.place)
        root = self.place if is_ledgered else f"{IN_DATABASE}:/{self.experiment_id}"
        below = f"models/{self.id}" if self.kind == "model" else self.id
        return f"{str(root).rstrip('/')}/{below}/artifacts"


@dataclass
class Copied:
    """The files that were copied, their bytes, and owners that could not be copied, with reasons.

    `without` counts the owners that have no files.
    """

    files: int = 0
    bytes: int = 0
    owners: int = 0
    without: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def _is_ledgered(location: str) -> bool:
    return scheme(location) == IN_DATABASE or scheme(location).startswith(CHECKED)


def owners_of(
    conn: Connection,
    locations: Mapping[str, str | None] | None = None,
    changed: Set[str] = frozenset(),
) -> list[Owner]:
    """The runs and logged models whose artifacts are to be copied.

    Parameters
    ----------
    conn
        A connection to the database.
    locations
        Where the source has the artifacts, by the id of a run or logged model; None: where the run
        here points. By default all runs and models here, which point at the source.
    changed
        Runs that have something new in the source: their copies get what is new there.
    """
    values = {"ids": None if locations is None else [*locations]}
    owners = [
        replace(owner, source=owner.location if locations is None else locations.get(owner.id))
        for owner in records(conn, Owner, _queries.artifact_roots, values)
        if owner.location
    ]
    return [owner for owner in owners if not owner.is_copied or owner.id in changed]


def copy_artifacts(
    database: DatabaseURI,
    owners: Sequence[Owner],
    *,
    tracking_uri: str | None = None,
    jobs: int = 4,
    on_owner: OnOwner = lambda done, total: None,
    dry_run: bool = False,
) -> Copied:
    """Copy the artifacts of runs and logged models.

    Parameters
    ----------
    database
        Where the runs are.
    owners
        The runs and logged models, by `owners_of`.
    tracking_uri
        The database of the source, to which `timescaledb-artifacts:` locations belong.
    jobs
        How many runs are copied at a time.
    on_owner
        Called with the number of runs and models that are done, and of all.
    dry_run
        Only count the files of local folders.
    """
    copied = Copied()
    with ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="artifacts") as pool:
        work = {
            pool.submit(_copy, owner, database, tracking_uri, dry_run): owner for owner in owners
        }
        for done, future in enumerate(as_completed(work), 1):
            try:
                files, size = future.result()
            except Exception as exc:
                name = f"{work[future].kind} {work[future].id}"
                copied.skipped[name] = " ".join(str(exc).split())
            else:
                copied.files += files
                copied.bytes += size
                copied.owners += files > 0
                copied.without += files == 0
            on_owner(done, len(owners))
    if not dry_run:
        places = [f"{owner.target}%" for owner in owners]
        with connection(database) as conn:
            runs = [owner.id for owner in owners if owner.kind == "run"]
            conn.execute(_queries.freeze_versions, {"runs": runs, "places": places})
    return copied


def _copy(
    owner: Owner, database: DatabaseURI, tracking_uri: str | None, dry_run: bool
) -> tuple[int, int]:
    """Copy the files of a run or logged model; return their number and bytes."""
    with _local(owner.source or owner.location, tracking_uri) as folder:
        if folder is None:
            return 0, 0
        files = [path for path in folder.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        if dry_run or not files:
            return len(files), size
        target = _target(owner.target, database)
        if not (entries := _entries(target)):
            target.log_artifacts(str(folder))
        for path in files if entries else ():
            name = path.relative_to(folder).as_posix()
            entry = entries.get(join(target.location, name))
            if entry is None or entry.fingerprint != hash_file(path):
                target.log_artifact(str(path), name.rpartition("/")[0] or None)
    if not owner.is_copied:
        _point_at_copies(owner, database)
    return len(files), size


def _target(location: str, database: DatabaseURI) -> LedgeredRepository:
    if scheme(location) == IN_DATABASE:
        return opening.open_stored(canonical(location), database)
    return cast("LedgeredRepository", opening.checked_repository(location, database.url))


def _entries(target: LedgeredRepository) -> dict[str, ledger.Entry]:
    with target.connection() as conn:
        return ledger.current(conn, target.location)


@contextmanager
def _local(location: str, tracking_uri: str | None) -> Iterator[Path | None]:
    """The folder with the files of a location: itself, or a download; None if it does not exist."""
    parts = urlsplit(location)
    if parts.scheme in ("", "file"):
        folder = Path(unquote(parts.path) if parts.scheme else location)
        yield folder if folder.is_dir() else None
        return
    if parts.scheme == "mlflow-artifacts":
        raise db.Error(f"{location} is behind a tracking server: copy it from where the server is")
    with tempfile.TemporaryDirectory() as scratch:
        repository = get_artifact_repository(location, tracking_uri=tracking_uri)
        if not repository.list_artifacts():
            yield None
            return
        yield Path(repository.download_artifacts("", scratch))


def _point_at_copies(owner: Owner, database: DatabaseURI) -> None:
    move = _queries.move_run if owner.kind == "run" else _queries.move_model
    values = {"id": owner.id, "old": owner.location, "new": owner.target}
    with connection(database) as conn:
        conn.execute(move, values)
        conn.execute(_queries.move_versions, values)
