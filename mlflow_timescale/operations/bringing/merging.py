"""Add new data of another MLflow to a database in use; a run is added completely or not at all.

Run ids are kept, and experiments are matched by name. A run with another value of a param is a
conflict: it is listed and does not change. `mlops.brought_runs` remembers the contents of a source,
so that a second call skips unchanged runs, and does not undo changes and deletions in the target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

from mlflow_timescale import db
from mlflow_timescale.artifacts.locations import IN_DATABASE
from mlflow_timescale.common.text import one_line
from mlflow_timescale.db import Connection
from mlflow_timescale.db.revisions import MIGRATE
from mlflow_timescale.db.rows import pairs, scalar
from mlflow_timescale.operations.bringing import other_rows, registered_models
from mlflow_timescale.operations.bringing.experiments import Experiments, match_experiments
from mlflow_timescale.operations.bringing.older_schemas import ImportFailed
from mlflow_timescale.operations.bringing.run_rows import RunHead, RunRows, heads
from mlflow_timescale.operations.bringing.sources import (
    OpenSource,
    opened,
    require_another_database,
)

Note = Callable[[str], None]
OnRuns = Callable[[int, int], None]
_queries = db.load("merging")
# The most points and runs of one transaction; a single run may have more points.
_POINTS, _RUNS = 100_000, 500


@dataclass(frozen=True)
class Conflict:
    """A run that was not changed, and the reason."""

    run_id: str
    reason: str


@dataclass
class Merged:
    """The data that was added, or would be added by a dry run.

    Attributes
    ----------
    experiments
        New experiments.
    runs, grown, unchanged
        New runs, existing runs that got new data, and runs without new data.
    deleted
        Runs that were deleted in the target, and stay deleted.
    rows
        New rows by table.
    conflicts
        Runs that were not changed because they conflict.
    different
        Tags that have another value in the target, and were not changed.
    not_brought
        Messages on registered models, traces and others that conflict or were refused; `notes` has
        them too.
    notes
        Messages on everything that was left out or changed.
    locations
        Locations of the artifacts in the source, by the id of a run, logged model or trace that is
        in the target and not in conflict; None for an unchanged run without a folder of artifacts.
    """

    experiments: int = 0
    runs: int = 0
    grown: int = 0
    unchanged: int = 0
    deleted: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    not_brought: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    locations: dict[str, str | None] = field(default_factory=dict)

    def add_rows(self, table: str, rows: int) -> None:
        if rows:
            self.rows[table] = self.rows.get(table, 0) + rows


def merge_from(
    source: str,
    conn: Connection,
    *,
    prefix: str = "",
    changes: bool = False,
    on_note: Note = lambda line: None,
    on_runs: OnRuns = lambda done, total: None,
    then: Callable[[Merged], None] = lambda merged: None,
    dry_run: bool = False,
) -> Merged:
    """Add what is new in a source to a database in use.

    Parameters
    ----------
    source
        A database URI of MLflow's, or the directory of a file store. Raises ImportFailed if it
        cannot be read, is of another version of MLflow, or is the target.
    conn
        A connection in autocommit mode to a database of ours. Runs are added in transactions of
        about 100,000 points; an interrupted call is continued by the next one.
    prefix
        A text before the names of experiments and registered models. Raises ImportFailed for one
        with / or :, which no registered model may have in its name, and for a target with a schema
        of an older version.
    changes
        Bring later changes of the source, too: tags with another value than when the run was
        brought. Otherwise such tags are listed. With it, runs that were deleted permanently in the
        target are not brought again.
    on_note
        Called with a line for everything that is left out or changed.
    on_runs
        Called with the number of runs that are done, and the number of runs with new data.
    then
        Called at the end, before a dry run is rolled back.
    dry_run
        Do everything, and roll it back.
    """
    if {*prefix} & {*"/:"}:
        raise ImportFailed(
            f"the prefix {prefix!r} has / or :, which MLflow refuses in names of models"
        )
    if not scalar(conn, _queries.has_memory):
        raise ImportFailed(
            f"the schema of the target is of an older version: run `{MIGRATE}` first"
        )
    remembered = pairs(conn, _queries.remembered)
    merged = Merged()

    def note(line: str) -> None:
        merged.notes.append(line)
        on_note(line)

    here = pairs(conn, _queries.stages, {"runs": [*remembered]})
    known = {run_id: mark for run_id, mark in remembered.items() if changes or run_id in here}
    with opened(source, note, known_marks=known, without_orphans=False) as opened_source:
        require_another_database(opened_source.rows, conn)
        merge = _Merge(opened_source, conn, merged, note, changes)
        with conn.transaction(force_rollback=True) if dry_run else nullcontext():
            merge.all(remembered, prefix, on_runs)
            then(merged)
    return merged


@dataclass
class _Merge:
    """One call: source, target and result."""

    source: OpenSource
    conn: Connection
    merged: Merged
    note: Note
    changes: bool
    deleted: set[str] = field(default_factory=set)
    stay_deleted: set[str] = field(default_factory=set)

    def all(self, remembered: Mapping[str, str], prefix: str, on_runs: OnRuns) -> None:
        with self.conn.transaction():
            experiments = match_experiments(self.source, self.conn, prefix, self.changes, self.note)
        self.merged.experiments = len(experiments.new)
        self.merged.different += experiments.different
        self.merged.add_rows("experiment_tags", experiments.new_tags)
        runs = heads(self.source)
        self.merged.unchanged += len(self.source.unread)
        self.merged.conflicts += [Conflict(*item) for item in self.source.unreadable.items()]
        new, known = self._sorted_out(runs, remembered)
        inside = sum((head.location or "").startswith(IN_DATABASE) for head in new)
        if inside:
            self.note(
                f"the artifacts of {inside} new runs are in the database of the source: only "
                f"--artifacts copies them"
            )
        writer = RunRows(self.source, self.conn, experiments, self.changes)
        total, done = len(new) + len(known), 0
        for group, is_new in ((new, True), (known, False)):
            for batch in _batches(group):
                self._bring(writer, batch, is_new)
                done += len(batch)
                on_runs(done, total)
        self._bring_rest(experiments, prefix)
        self._locate(runs)

    def _locate(self, runs: Mapping[str, RunHead]) -> None:
        """Collect the locations of artifacts, except those of runs that are not changed."""
        places = {run_id: head.location for run_id, head in runs.items()}
        places |= self.source.unread
        left_out = {conflict.run_id for conflict in self.merged.conflicts}
        left_out |= self.deleted | self.stay_deleted
        others = other_rows.locations(self.source, left_out)
        self.merged.locations = {
            run_id: place for run_id, place in places.items() if run_id not in left_out
        } | others

    def _sorted_out(
        self, runs: Mapping[str, RunHead], remembered: Mapping[str, str]
    ) -> tuple[list[RunHead], list[RunHead]]:
        """The new runs, and the existing runs with new data."""
        stages = pairs(self.conn, _queries.stages, {"runs": [*runs, *self.source.unread]})
        self.stay_deleted = {run_id for run_id, stage in stages.items() if stage == "deleted"}
        new, known = [], []
        for run_id, head in runs.items():
            if remembered.get(run_id) == head.mark and run_id in stages:
                self.merged.unchanged += 1
            elif stages.get(run_id) == "deleted":
                self.deleted.add(run_id)
            elif run_id in stages:
                known.append(head)
            elif run_id in remembered and self.changes:
                self.deleted.add(run_id)
            else:
                new.append(head)
        self.merged.deleted = len(self.deleted)
        return new, known

    def _bring(self, writer: RunRows, batch: list[RunHead], is_new: bool) -> None:
        """Bring a batch in one transaction; if the database refuses it, bring each half."""
        try:
            with self.conn.transaction():
                outcome = writer.add_new(batch) if is_new else writer.add_to(batch)
        except writer.refusals as exc:
            if len(batch) > 1:
                middle = len(batch) // 2
                self._bring(writer, batch[:middle], is_new)
                self._bring(writer, batch[middle:], is_new)
                return
            reason = one_line(exc)
            self.merged.conflicts.append(Conflict(batch[0].run_id, f"refused: {reason}"))
            return
        conflicts = {run_id for run_id, _ in outcome.conflicts}
        self.merged.conflicts += [Conflict(*pair) for pair in outcome.conflicts]
        self.merged.different += outcome.different
        for table, rows in outcome.rows.items():
            self.merged.add_rows(table, rows)
        if is_new:
            self.merged.runs += len(batch)
        else:
            self.merged.grown += len(outcome.grown)
            self.merged.unchanged += len(batch) - len(outcome.grown) - len(conflicts)

    def _bring_rest(self, experiments: Experiments, prefix: str) -> None:
        left_out = {conflict.run_id for conflict in self.merged.conflicts}
        for added in (
            other_rows.add(
                self.source,
                self.conn,
                experiments,
                left_out | self.deleted,
                self.changes,
                self.note,
            ),
            registered_models.add(self.source, self.conn, prefix, self.changes, self.note),
        ):
            self.merged.different += added.different
            self.merged.not_brought += added.not_brought
            for table, rows in added.rows.items():
                self.merged.add_rows(table, rows)


def _batches(runs: list[RunHead]) -> Iterator[list[RunHead]]:
    """Batches with a bounded number of points, of at least one run."""
    batch: list[RunHead] = []
    points = 0
    for head in runs:
        if batch and (points + head.points > _POINTS or len(batch) == _RUNS):
            yield batch
            batch, points = [], 0
        batch.append(head)
        points += head.points
    if batch:
        yield batch
