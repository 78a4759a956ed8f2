"""The runs of a file store, from the view of its folder (`file_store.build_view`) into sqlite.

MLflow's converter takes 40 ms a run, because it makes an object of each value and loads YAML in
Python. It reads the rest of the folder; the metas of the runs are taken out of its sight.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow.entities import RunStatus

from mlflow_timescale import db
from mlflow_timescale.operations.file_store import META, MODELS, RESERVED, TRASH, load_meta

_sqlite = db.load("sqlite")
_LARGEST = 1.7976931348623157e308  # what MLflow stores for infinity
_PLAIN = ("source_name", "entry_point_name", "source_version")
_SAME = ("user_id", "start_time", "end_time", "deleted_time", "artifact_uri")


@dataclass(frozen=True)
class TakenRuns:
    """Folders of runs, by the id of their experiment, whose metas the converter does not see."""

    metas: list[tuple[int, Path, dict[str, Any]]] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write the rows of all runs into the tables of a sqlite file."""
        with closing(sqlite3.connect(path)) as target:
            target.execute(_sqlite.no_flush.as_string())
            for experiment, folder, meta in self.metas:
                _write_run(target, experiment, folder, meta)
            target.commit()


def take_runs(view: Path) -> TakenRuns:
    """Read the metas of all runs of a view, and remove them from it."""
    taken = TakenRuns()
    for experiment in view.iterdir():
        if experiment.name in (MODELS, TRASH):
            continue
        for folder in experiment.iterdir():
            meta = folder / META
            if folder.name not in RESERVED and folder.is_dir() and meta.is_file():
                content = load_meta(meta.read_text(encoding="utf-8"))
                taken.metas.append((int(experiment.name), folder, content))
                meta.unlink()
    return taken


def _write_run(
    target: sqlite3.Connection, experiment: int, folder: Path, meta: dict[str, Any]
) -> None:
    run_id = meta["run_uuid"]
    target.execute(_sqlite.add_run.as_string(), _run_row(experiment, meta))
    for statement, name in ((_sqlite.add_param, "params"), (_sqlite.add_tag, "tags")):
        texts = ((run_id, key, path.read_text()) for key, path in _files(folder / name))
        target.executemany(statement.as_string(), texts)
    for key, path in _files(folder / "metrics"):
        points = [parse_point(line) for line in path.read_text().splitlines()]
        rows = [(run_id, key, *point) for point in points]
        target.executemany(_sqlite.add_point.as_string(), rows)
        if points:
            # MLflow compares (step, time, value), with 0 for NaN.
            last = max(points, key=lambda point: (point[1], point[0], point[2]))
            target.execute(_sqlite.add_latest.as_string(), (run_id, key, *last))


def _run_row(experiment: int, meta: dict[str, Any]) -> dict[str, Any]:
    status = meta.get("status", RunStatus.RUNNING)
    kind = meta.get("source_type", "LOCAL")
    return {
        "run_uuid": meta["run_uuid"],
        "experiment_id": experiment,
        "name": meta.get("run_name") or meta.get("name"),
        "source_type": kind if isinstance(kind, str) else "LOCAL",
        "status": RunStatus.to_string(status) if isinstance(status, int) else str(status),
        "lifecycle_stage": meta.get("lifecycle_stage", "active"),
        **{name: meta.get(name, "") for name in _PLAIN},
        **{name: meta.get(name) for name in _SAME},
    }


def parse_point(line: str) -> tuple[int, int, float, bool]:
    """The time in ms, step, value and whether it is NaN, of a line of a metric's file.

    MLflow stores 0 for NaN, and the largest numbers for infinities.

    >>> parse_point("1700000000000 0.25 7")
    (1700000000000, 7, 0.25, False)
    >>> parse_point("1700000000000 nan")
    (1700000000000, 0, 0.0, True)
    """
    time, text, *step = line.strip().split(" ")
    value = float(text)
    if math.isnan(value):
        return int(time), int(step[0]) if step else 0, 0.0, True
    value = max(-_LARGEST, min(_LARGEST, value))
    return int(time), int(step[0]) if step else 0, value, False


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files below a folder, whose paths are keys."""
    if folder.is_dir():
        for path in folder.rglob("*"):
            if path.is_file():
                yield path.relative_to(folder).as_posix(), path
