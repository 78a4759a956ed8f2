"""Copy the artifacts of runs, logged models and traces into the ledger, with their checksums.

First the files of a run are copied; then, in one transaction, its row and the model versions at its
location point at the copies. The next call continues an interrupted one: a file in the ledger with
the same checksum is not copied again. `mlops.brought_artifacts` remembers the files of the source,
so that a later call copies only new and changed ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import cast

from mlflow.exceptions import MlflowException

from mlflow_timescale import db
from mlflow_timescale.artifacts import ledger, opening
from mlflow_timescale.artifacts.databases import connection
from mlflow_timescale.artifacts.locations import CHECKED, IN_DATABASE, canonical, join, scheme
from mlflow_timescale.artifacts.repository import LedgeredRepository
from mlflow_timescale.common.text import one_line
from mlflow_timescale.db import Connection, DatabaseURI
from mlflow_timescale.db.revisions import MIGRATE
from mlflow_timescale.db.rows import if_migrated, records, scalar
from mlflow_timescale.operations.bringing.artifact_sources import SourceFiles, files_at, unspooled
from mlflow_timescale.operations.bringing.older_schemas import ImportFailed

OnOwner = Callable[[int, int], None]
_queries = db.load("merging")
# Up to this many bytes a directory is one transaction in the database, else each file is one.
_AT_ONCE = 64 * 2**20
# Where MLflow puts the artifacts below those of the experiment.
_BELOW = {"run": "", "model": "models/", "trace": "traces/"}
# The mark of an incomplete first copy: all files in the target came from it.
_BEGUN = "begun"


@dataclass(frozen=True)
class Owner:
    """A run, logged model or trace: where its artifacts are here and in the source.

    `place` is that of its experiment, `mark` a hash of the files that were copied earlier.
    """

    kind: str
    id: str
    location: str
    experiment_id: int
    place: str | None
    source: str | None = None
    mark: str | None = None

    @property
    def is_copied(self) -> bool:
        """Whether the location in the target holds copies already."""
        return _is_ledgered(self.location) and self.location != self.source

    @property
    def target(self) -> str:
        """The location of the copies: the experiment's if that has a ledger, else the database."""
        if self.is_copied:
            return self.location
        is_ledgered = self.place is not None and _is_ledgered(self.place)
        root = self.place if is_ledgered else f"{IN_DATABASE}:/{self.experiment_id}"
        return f"{str(root).rstrip('/')}/{_BELOW[self.kind]}{self.id}/artifacts"


@dataclass
class Copied:
    """The files that were copied, their bytes, and owners that could not be copied, with reasons.

    `without` counts the runs and logged models that have no files.
    """

    files: int = 0
    bytes: int = 0
    owners: int = 0
    without: int = 0
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, copy: _Copy) -> None:
        """Count the copied files of an owner."""
        self.files += len(copy.sizes)
        self.bytes += sum(copy.sizes)
        self.owners += bool(copy.sizes)
        self.without += not copy.total and copy.owner.kind != "trace"  # most traces have no files


def _is_ledgered(location: str) -> bool:
    return scheme(location) == IN_DATABASE or scheme(location).startswith(CHECKED)


def owners_of(conn: Connection, locations: Mapping[str, str | None] | None = None) -> list[Owner]:
    """The runs and logged models whose artifacts are copied, or compared with what was copied.

    Parameters
    ----------
    conn
        A connection to the database.
    locations
        Where the source has the artifacts, by the id of a run, logged model or trace; None: where
        they were when they were copied, or where the run here points. By default all that is here,
        which points at the source.
    """
    values = {"ids": None if locations is None else [*locations]}
    earlier = {row[0]: row[1:] for row in if_migrated(conn, _queries.brought_artifacts, values)}
    owners = []
    for owner in records(conn, Owner, _queries.artifact_roots, values):
        copied_from, mark = earlier.get(owner.id, (None, None))
        source = (locations or {}).get(owner.id) or copied_from
        if source is None and (locations is None or not _is_ledgered(owner.location or "")):
            source = owner.location
        # Files at a place of their own, of which the source has copies, stay where they are.
        has_place = not _is_ledgered(owner.location or "") and _is_ledgered(source or "")
        if source and owner.location and not has_place:
            owners.append(replace(owner, source=source, mark=mark))
    return owners


def copy_artifacts(
    database: DatabaseURI,
    owners: Sequence[Owner],
    *,
    tracking_uri: str | None = None,
    jobs: int = 4,
    on_owner: OnOwner = lambda done, total: None,
    dry_run: bool = False,
) -> Copied:
    """Copy the artifacts of runs, logged models and traces.

    Parameters
    ----------
    database
        The target.
    owners
        The owners of artifacts, as `owners_of` returns them.
    tracking_uri
        The database of the source, to which `timescaledb-artifacts:` locations belong.
    jobs
        The number of owners that are copied at a time.
    on_owner
        Called with the number of owners that are done, and the number of all owners.
    dry_run
        Only list the files, and count new and changed ones.
    """
    copied = Copied()
    with connection(database) as conn:
        if not scalar(conn, _queries.has_memory):
            raise ImportFailed(f"the schema of the target is of an older version: run `{MIGRATE}`")
    with ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="artifacts") as pool:
        work = {
            pool.submit(_Copy(owner, database, tracking_uri).run, dry_run): owner
            for owner in owners
        }
        for done, future in enumerate(as_completed(work), 1):
            name = f"{work[future].kind} {work[future].id}"
            try:
                copy = future.result()
            except Exception as exc:
                copied.skipped[name] = one_line(exc)
            else:
                copied.add(copy)
                copied.skipped |= {f"{name}: {path}": why for path, why in copy.refused.items()}
            on_owner(done, len(owners))
    return copied


@dataclass
class _Copy:
    """The copy of the files of one owner."""

    owner: Owner
    database: DatabaseURI
    tracking_uri: str | None
    total: int = 0
    sizes: list[int] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def run(self, dry_run: bool) -> _Copy:
        """Copy new and changed files of the source; with `dry_run` only count them."""
        owner = self.owner
        files = files_at(owner.source or owner.location, self.tracking_uri)
        self.total = len(files.stamps)
        if not files.stamps or files.mark == owner.mark:
            return self
        earlier = self._earlier() if owner.mark is not None else {}
        news = [path for path, stamp in files.stamps.items() if earlier.get(path) != stamp]
        if dry_run:
            entries = _entries(_target(owner.target, self.database))
            pending = self._pending(files, news, earlier, entries, owner.mark == _BEGUN)
            self.sizes = [files.size(path) for path in pending]
        else:
            self._copy(files, news, earlier)
            self._finish(files)
        return self

    def _earlier(self) -> dict[str, str]:
        with connection(self.database) as conn:
            files: dict[str, str] = scalar(conn, _queries.brought_files, {"id": self.owner.id})
        return files

    def _copy(self, files: SourceFiles, news: list[str], earlier: Mapping[str, str]) -> None:
        """Copy files; a different file of the target that never came from the source is refused."""
        target = _target(self.owner.target, self.database)
        entries = _entries(target)
        size = sum(map(files.size, news))
        is_small = scheme(self.owner.target) == IN_DATABASE and size <= _AT_ONCE
        if files.folder is not None and not entries and is_small and len(news) == self.total:
            target.log_artifacts(str(files.folder))
            self.sizes = [files.size(path) for path in news]
            return
        is_begun = self.owner.mark == _BEGUN
        if self.owner.mark is None and not entries:
            self._remember(_BEGUN, {})
            is_begun = True
        for path in self._pending(files, news, earlier, entries, is_begun):
            try:
                with files.local(path) as file:
                    target.log_artifact(str(file), path.rpartition("/")[0] or None)
            except MlflowException as exc:
                self.refused[path] = one_line(exc.message)
            else:
                self.sizes.append(files.size(path))

    def _pending(
        self,
        files: SourceFiles,
        news: list[str],
        earlier: Mapping[str, str],
        entries: Mapping[str, ledger.Entry],
        is_begun: bool,
    ) -> Iterator[str]:
        """The files that are to be copied, of those that are new or changed in the source."""
        for path in news:
            entry = entries.get(join(canonical(self.owner.target), path))
            if files.is_same(path, entry):
                continue  # copied before an interruption, or from another source
            if entry is not None and path not in earlier and not is_begun:
                self.refused[path] = "another file is here: left as it is"
                continue
            yield path

    def _finish(self, files: SourceFiles) -> None:
        """Point the rows at the copies, and remember the files of the source."""
        owner = self.owner
        stamps = {path: each for path, each in files.stamps.items() if path not in self.refused}
        values = {"id": owner.id, "old": owner.location, "new": owner.target}
        with connection(self.database) as conn:
            if not owner.is_copied:
                conn.execute(_MOVES[owner.kind], values)
                conn.execute(_queries.move_versions, values)
            if scalar(conn, _queries.has_versions, values):
                freeze = {"run": owner.id, "place": f"{owner.target}%"}
                conn.execute(_queries.freeze_versions, freeze)
            self._remember("" if self.refused else files.mark, stamps, conn)

    def _remember(
        self, mark: str, stamps: Mapping[str, str], conn: Connection | None = None
    ) -> None:
        """Store the files of the source, in the caller's transaction or in a new one."""
        owner = self.owner
        memory = {
            "id": owner.id,
            "source": owner.source or owner.location,
            "mark": mark,
            "files": json.dumps(stamps),
        }
        with nullcontext(conn) if conn else connection(self.database) as open_conn:
            open_conn.execute(_queries.remember_artifacts, memory)


_MOVES = {"run": _queries.move_run, "model": _queries.move_model, "trace": _queries.move_trace}


def _target(location: str, database: DatabaseURI) -> LedgeredRepository:
    if scheme(location) == IN_DATABASE:
        return opening.open_stored(canonical(location), database)
    return cast("LedgeredRepository", unspooled(opening.checked_repository(location, database.url)))


def _entries(target: LedgeredRepository) -> dict[str, ledger.Entry]:
    with target.connection() as conn:
        return ledger.current(conn, target.location)
