"""Judging every run of a source that has scores and labels, in parallel.

A run that cannot be judged is an outcome with a reason; the other runs are judged nevertheless.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from mlflow_timescale.common import packages
from mlflow_timescale.common.errors import first_of
from mlflow_timescale.common.text import one_line
from mlflow_timescale.db import Error
from mlflow_timescale.operations.bringing.run_list import ListedRun

from .cells import Unusable
from .judging import Judged
from .places import Place, files_below
from .tables import PICKLES, TABLES
from .work import FILES, LABELS, LONGEST_REASON, SCORES, Request, Task, judge_task

__all__ = ["FILES", "Outcome", "Request", "judge_runs", "title", "why_none"]

ALONE = 16  # runs up to which one process is faster than starting several
WAITING = 4  # runs for each process whose files are read in advance
# qlib's expression of a return over several sessions, such as Ref($close, -6)/Ref($close, -1) - 1.
_SPAN = re.compile(
    r"Ref\(\s*(?P<price>\$\w+)\s*,\s*-(?P<end>\d+)\s*\)\s*/\s*"
    r"(Ref\(\s*(?P=price)\s*,\s*-(?P<start>\d+)\s*\)|(?P=price))\s*-\s*1"
)
_DEFAULTS = ("Alpha158", "Alpha360", "Alpha158vwap", "Alpha360vwap")
OnRun = Callable[[int, int], None]
_LEVELS = 5  # levels of a folder in which tables are looked for
_TABLES_SHOWN = 5
Later: TypeAlias = "Future[tuple[Judged | None, str]]"


@dataclass(frozen=True)
class Outcome:
    """A run with its judged model, or with the reason why it is left out.

    `reason` is "" for a judged model.
    """

    run: ListedRun
    judged: Judged | None = None
    reason: str = ""


def judge_runs(
    runs: Sequence[ListedRun],
    request: Request,
    *,
    tracking_uri: str | None = None,
    on_run: OnRun = lambda done, total: None,
) -> list[Outcome]:
    """Judge every run; the outcomes are in the order of the runs.

    Parameters
    ----------
    runs
        As `run_list.list_runs` returns them.
    request
        The files to read, and the settings.
    tracking_uri
        The database to which `timescaledb-artifacts:` locations belong.
    on_run
        Called with the number of runs that are done, and the number of all runs.

    Raises
    ------
    Unusable
        The file with prices cannot be read.
    """
    shared = _shared_prices(request)
    outcomes: list[Outcome | Later] = []
    with _pool(len(runs)) as pool:
        for number, run in enumerate(runs):
            outcomes.append(_begin(run, request, shared, tracking_uri, pool))
            ahead = number - WAITING * _processes() if pool else number
            _wait(runs, outcomes, ahead, on_run)
        _wait(runs, outcomes, len(runs) - 1, on_run)
    return [outcome for outcome in outcomes if isinstance(outcome, Outcome)]


def _wait(
    runs: Sequence[ListedRun], outcomes: list[Outcome | Later], last: int, on_run: OnRun
) -> None:
    """Wait for the outcomes up to a position, which bounds the files that are held in memory."""
    for position in range(max(last + 1, 0)):
        later = outcomes[position]
        if isinstance(later, Future):
            outcomes[position] = Outcome(runs[position], *later.result())
            on_run(position + 1, len(runs))


def _processes() -> int:
    return min(len(os.sched_getaffinity(0)), 8)


@contextmanager
def _pool(runs: int) -> Iterator[ProcessPoolExecutor | None]:
    """Processes that share the work; None for few runs, or one processor."""
    if runs <= ALONE or _processes() < 2:
        yield None
        return
    # Spawned: threads and connections of this process would not survive a fork. The initializer
    # loads our package, because another package may have the name `drift`.
    with ProcessPoolExecutor(
        _processes(), get_context("spawn"), initializer=packages.load, initargs=("drift",)
    ) as pool:
        yield pool


def _begin(
    run: ListedRun,
    request: Request,
    shared: tuple[str, bytes] | None,
    tracking_uri: str | None,
    pool: ProcessPoolExecutor | None,
) -> Outcome | Later:
    """Read the files of a run, and judge it in this process or in the pool."""
    place = Place(run.place, tracking_uri)
    try:
        task = _task(run, place, request, shared)
    except Error as exc:
        return Outcome(run, reason=one_line(exc, LONGEST_REASON))
    return pool.submit(judge_task, task) if pool else Outcome(run, *judge_task(task))


def _task(run: ListedRun, place: Place, request: Request, shared: tuple[str, bytes] | None) -> Task:
    if isinstance(place.location, Path) and not place.location.is_dir():
        raise Unusable(
            f"its artifacts are not at {place.location}; copy their folder beside the source"
        )
    scores = _scores(place, request)
    labels = prices = None
    if request.prices is not None:
        prices = shared or _needed(place, request.prices, ", and there is no such file here")
    elif scores[0] == SCORES:
        labels = _needed(place, LABELS)
    horizon = None if request.prices is not None else _horizon(run)
    return Task(title(run), request, scores, labels, prices, horizon)


def _scores(place: Place, request: Request) -> tuple[str, bytes]:
    """The file with the scores: the one that was named, qlib's, or the only table."""
    if request.table is not None:
        return _needed(place, request.table)
    content = place.read(SCORES)
    if content is not None:
        return SCORES, content
    tables = [name for name in place.names() if name.lower().endswith(TABLES)]
    likely = [name for name in tables if re.search("pred|score|signal|forecast", name.lower())]
    chosen = likely or tables
    if len(chosen) != 1:
        more = f"; it has the tables {', '.join(chosen[:5])}: name one with --table"
        raise Unusable(f"it has no {SCORES}{more if chosen else ' and no table'}")
    return _needed(place, chosen[0])


def _needed(place: Place, name: str, more: str = "") -> tuple[str, bytes]:
    content = place.read(name)
    if content is None:
        raise Unusable(f"it has no {name}{more}")
    return name, content


def _shared_prices(request: Request) -> tuple[str, bytes] | None:
    """The file of prices for all runs; None where each run has its own."""
    if request.prices is None or not Path(request.prices).is_file():
        return None
    path = Path(request.prices)
    content = Place(path.absolute().parent).read(path.name)
    return None if content is None else (path.name, content)


def _horizon(run: ListedRun) -> tuple[int, str] | None:
    """The sessions that a label covers, from the params that qlib logs; None if none states it.

    >>> label = "['Ref($close, -6) / Ref($close, -1) - 1']"
    >>> run = ListedRun("1", "lgb", "alpha158", 0, "", {"handler.kwargs.label": label})
    >>> _horizon(run)
    (5, 'Ref($close, -6) / Ref($close, -1) - 1')
    """
    for key, value in sorted(run.params.items()):
        if key.endswith("label") and (span := _SPAN.search(value)):
            start = int(span["start"] or 0)
            if int(span["end"]) > start:
                return int(span["end"]) - start, span[0]
    for key, value in run.params.items():
        if key.endswith("handler.class") and value in _DEFAULTS:
            return 1, f"the default label of qlib's {value}"
    return None


def why_none(source: str, request: Request) -> str:
    """Why a source has no run, and what to give in its place.

    Parameters
    ----------
    source
        A folder, or the URI of a database, without secrets.
    request
        Which files were looked for.
    """
    folder = Path(source)
    if "://" in source or not folder.is_dir():
        return f"{source} has no active run."
    wanted = request.table or SCORES
    text = f"no folder in {source} is an active run of MLflow or holds {wanted}."
    names = {PurePosixPath(name).name for name in files_below(folder, levels=_LEVELS)}
    tables = sorted(name for name in names if name.lower().endswith((*TABLES, *PICKLES)))
    if not tables:
        return f"{text} Give the folder or the database of an MLflow, or a folder with {SCORES}."
    return f"{text} It has {first_of(tables, _TABLES_SHOWN)}: name one with --table."


def title(run: ListedRun) -> str:
    """The name of a run, or the beginning of its id if it has no name."""
    return run.name or f"run {run.run_id[:8]}"
