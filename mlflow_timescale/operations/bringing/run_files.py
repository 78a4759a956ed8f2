"""The runs of a file store, read from its folder into sqlite.

MLflow's converter takes 30 ms a run, because it creates an object for each value and loads YAML in
Python. It reads only the other parts of the folder.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from mlflow.entities import RunStatus

from mlflow_timescale import db
from mlflow_timescale.operations.file_store import TakenRun, read_points, read_texts

Note = Callable[[str], None]

_sqlite = db.load("sqlite")
_LARGEST = 1.7976931348623157e308  # what MLflow stores for infinity
_PLAIN = ("source_name", "entry_point_name", "source_version")
_SAME = ("user_id", "start_time", "end_time", "deleted_time", "artifact_uri")


def write_runs(path: Path, runs: Iterable[TakenRun], note: Note) -> dict[str, str]:
    """Write the rows of runs into the tables of a sqlite file.

    A run with a file that cannot be read is left out; returns the reasons by run id.
    """
    unreadable = {}
    with closing(sqlite3.connect(path)) as target:
        target.execute(_sqlite.no_flush.as_string())
        for run in runs:
            try:
                rows = [*_rows_of_run(run, note)]
            except OSError as exc:
                unreadable[run.meta["run_uuid"]] = f"left out: {exc.filename}: {exc.strerror}"
                continue
            target.execute(_sqlite.add_run.as_string(), _run_row(run.experiment, run.meta))
            for statement, values in rows:
                target.executemany(statement.as_string(), values)
        target.commit()
    return unreadable


def _rows_of_run(run: TakenRun, note: Note) -> Iterator[tuple[Any, list[tuple[Any, ...]]]]:
    """The statements that add params, tags and points of a run, with their rows."""
    run_id = run.meta["run_uuid"]
    for statement, name in ((_sqlite.add_param, "params"), (_sqlite.add_tag, "tags")):
        folder = run.folder / name
        texts: list[tuple[Any, ...]] = [
            (run_id, path.relative_to(folder).as_posix(), text)
            for path, text, _ in read_texts(folder, note)
        ]
        yield statement, texts
    folder = run.folder / "metrics"
    for path, lines, _ in read_points(folder, note):
        key = path.relative_to(folder).as_posix()
        points = [parse_point(line) for line in lines]
        rows: list[tuple[Any, ...]] = [(run_id, key, *point) for point in points]
        yield _sqlite.add_point, rows
        if points:
            # MLflow compares (step, time, value), with 0 for NaN.
            last = max(points, key=lambda point: (point[1], point[0], point[2]))
            yield _sqlite.add_latest, [(run_id, key, *last)]


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
    """The time in ms, step, value and NaN flag of a line in the file of a metric.

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
