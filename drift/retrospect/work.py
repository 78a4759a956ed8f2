"""Judging one model from the contents of its files, which a worker process does.

This module does not import MLflow, so that a worker process starts within a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mlflow_timescale.common.frames import Labels
from mlflow_timescale.common.text import one_line
from mlflow_timescale.db import Error

from .cells import Cells
from .judging import Judged, Terms, judge
from .panels import join
from .tables import Names, cells_of, forward_returns, read_table

__all__ = ["FILES", "LABELS", "LONGEST_REASON", "SCORES", "Request", "Task", "judge_task"]

SCORES, LABELS = "pred.pkl", "label.pkl"  # the artifacts of qlib's SignalRecord
FILES = (SCORES, LABELS)
LONGEST_REASON = 400  # characters


@dataclass(frozen=True)
class Request:
    """The files to read of each run, and the settings of the judgement.

    Attributes
    ----------
    table
        The artifact with the scores; None for `pred.pkl`, or else the only table of the run.
    names
        The names of columns that the caller gave.
    prices
        A file, or an artifact of each run, with prices; None to use labels.
    terms
        The settings of the judgement.
    """

    table: str | None = None
    names: Names = field(default_factory=Names)
    prices: str | None = None
    terms: Terms = field(default_factory=Terms)


@dataclass(frozen=True)
class Task:
    """The input of a worker process: for each file of a run its name and content."""

    name: str
    request: Request
    scores: tuple[str, bytes]
    labels: tuple[str, bytes] | None
    prices: tuple[str, bytes] | None
    horizon: tuple[int, str] | None


def judge_task(task: Task) -> tuple[Judged | None, str]:
    """The judged model and "", or None and the reason why it cannot be judged.

    Parameters
    ----------
    task
        The contents of the files.
    """
    try:
        scores, labels, notes = _cells(task)
        terms = task.request.terms
        if task.prices is not None:
            terms = replace(terms, horizon=terms.horizon or 1)
        horizon = terms.horizon or (task.horizon[0] if task.horizon else 1)
        judged = judge(task.name, join(scores, labels, horizon), terms, task.horizon)
    except Error as exc:
        return None, one_line(exc, LONGEST_REASON)
    except (ValueError, ArithmeticError, MemoryError) as exc:
        return None, f"it cannot be judged: {type(exc).__name__}: {one_line(exc, LONGEST_REASON)}"
    return replace(judged, notes=(*notes, *judged.notes)), ""


def _cells(task: Task) -> tuple[Cells, Cells, list[str]]:
    """Scores and labels, with notes on the choice of their columns."""
    names = task.request.names
    table = read_table(task.scores[1], task.scores[0], names)
    scores, notes = cells_of(table, "score", names, task.scores[0])
    if task.prices is not None:
        horizon = task.request.terms.horizon or 1
        columns = read_table(task.prices[1], task.prices[0], names)
        prices, more = cells_of(columns, "price", _present(names, columns), task.prices[0])
        text = f"labels are returns over {horizon} session{'s' * (horizon > 1)} of the prices"
        return scores, forward_returns(prices, horizon), _unusual([*notes, *more, text])
    if task.labels is not None:
        name, content = task.labels
        columns = read_table(content, name, names)
        labels, more = cells_of(columns, "label", _present(names, columns), name)
    else:
        labels, more = cells_of(table, "label", names, task.scores[0], beside="score")
    return scores, labels, _unusual([*notes, *more])


def _present(names: Names, columns: Mapping[str, Labels]) -> Names:
    """The names that a second file has; its columns of times and entities may have other names."""
    return replace(
        names,
        time=names.time if names.time in columns else None,
        entity=names.entity if names.entity in columns else None,
    )


def _unusual(notes: Sequence[str]) -> list[str]:
    """The notes, without those on files of qlib that have the column names of qlib."""
    usual = tuple(f"{file}: time=datetime, entity=instrument, " for file in FILES)
    return [note for note in notes if not note.startswith(usual)]
