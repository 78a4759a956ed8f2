"""Every run of a source that has scores and labels, judged: in parallel, each by itself.

A run that cannot be judged is an outcome with a reason, and stops no other one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

from mlflow_timescale.common import packages
from mlflow_timescale.db import Error
from mlflow_timescale.operations.bringing.run_list import ListedRun

from .judging import Judged, Terms, judge
from .panels import Cells, Unusable, join
from .places import Place
from .tables import TABLES, Names, cells_of, forward_returns, read_table

__all__ = ["FILES", "Outcome", "Request", "judge_runs"]

SCORES, LABELS = "pred.pkl", "label.pkl"  # the artifacts of qlib's SignalRecord
FILES = (SCORES, LABELS)
ALONE = 8  # runs up to which one process is quicker than the start of others
WAITING = 4  # runs for each process whose files are read ahead
# qlib's expression of a return over several sessions, such as Ref($close, -6)/Ref($close, -1) - 1.
_SPAN = re.compile(
    r"Ref\(\s*(?P<price>\$\w+)\s*,\s*-(?P<end>\d+)\s*\)\s*/\s*"
    r"(Ref\(\s*(?P=price)\s*,\s*-(?P<start>\d+)\s*\)|(?P=price))\s*-\s*1"
)
_DEFAULTS = ("Alpha158", "Alpha360", "Alpha158vwap", "Alpha360vwap")
OnRun = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """What is read of each run, and by what it is judged.

    Attributes
    ----------
    table
        The artifact with the scores; None for `pred.pkl`, and else the table that is there.
    names
        The columns that were named.
    prices
        A file, or an artifact of each run, with prices; None to use labels.
    terms
        By what the models are judged.
    """

    table: str | None = None
    names: Names = field(default_factory=Names)
    prices: str | None = None
    terms: Terms = field(default_factory=Terms)


@dataclass(frozen=True)
class Outcome:
    """A run, and what was found of it, or why it is left out.

    `place` is where its artifacts are, `notes` what was done to read them.
    """

    run: ListedRun
    judged: Judged | None = None
    reason: str = ""
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class _Task:
    """What a process needs to judge a run: the contents of its files, by their names."""

    name: str
    request: Request
    scores: tuple[str, bytes]
    labels: tuple[str, bytes] | None
    prices: tuple[str, bytes] | None
    horizon: tuple[int, str] | None


def judge_runs(
    runs: Sequence[ListedRun],
    request: Request,
    *,
    tracking_uri: str | None = None,
    on_run: OnRun = lambda done, total: None,
) -> list[Outcome]:
    """Judge every run; in the order of the runs.

    Parameters
    ----------
    runs
        As `run_list.list_runs` returns them.
    request
        What is read of each.
    tracking_uri
        The database to which `timescaledb-artifacts:` locations belong.
    on_run
        Called with the number of runs that are done, and of all.

    Raises
    ------
    Unusable
        The file of prices cannot be read.
    """
    shared = _shared_prices(request)
    outcomes: list[Outcome | Future[Outcome]] = []
    with _pool(len(runs)) as pool:
        for number, run in enumerate(runs):
            outcomes.append(_begin(run, request, shared, tracking_uri, pool))
            ahead = number - WAITING * _processes() if pool else number
            _wait(outcomes, ahead, on_run, len(runs))
        _wait(outcomes, len(runs) - 1, on_run, len(runs))
    return [outcome for outcome in outcomes if isinstance(outcome, Outcome)]


def _wait(outcomes: list[Outcome | Future[Outcome]], last: int, on_run: OnRun, total: int) -> None:
    """Wait for the outcomes up to a position: what waits for its turn is in memory."""
    for position in range(max(last + 1, 0)):
        outcome = outcomes[position]
        if isinstance(outcome, Future):
            outcomes[position] = outcome.result()
            on_run(position + 1, total)


def _processes() -> int:
    return min(len(os.sched_getaffinity(0)), 8)


@contextmanager
def _pool(runs: int) -> Iterator[ProcessPoolExecutor | None]:
    """Processes that share the work; None for few runs, or one processor."""
    if runs <= ALONE or _processes() < 2:
        yield None
        return
    # Threads and connections of this process would not survive a fork. The package is loaded first:
    # its name may be taken, and then differs from that of its files.
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
) -> Outcome | Future[Outcome]:
    """Read the files of a run, and judge it here or elsewhere."""
    place = Place(run.place, tracking_uri)
    try:
        task = _task(run, place, request, shared)
    except Error as exc:
        return Outcome(run, reason=_line(exc))
    return pool.submit(_judge, run, task) if pool else _judge(run, task)


def _task(
    run: ListedRun, place: Place, request: Request, shared: tuple[str, bytes] | None
) -> _Task:
    if isinstance(place.location, Path) and not place.location.is_dir():
        raise Unusable(f"its artifacts are not at {place.location}")
    scores = _scores(place, request)
    labels = prices = None
    if request.prices is not None:
        prices = shared or _needed(place, request.prices)
    elif scores[0] == SCORES:
        labels = _needed(place, LABELS)
    horizon = None if request.prices is not None else _horizon(run)
    return _Task(title(run), request, scores, labels, prices, horizon)


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


def _needed(place: Place, name: str) -> tuple[str, bytes]:
    content = place.read(name)
    if content is None:
        raise Unusable(f"it has no {name}")
    return name, content


def _shared_prices(request: Request) -> tuple[str, bytes] | None:
    """The file of prices for all runs; None where each run has its own."""
    if request.prices is None or not Path(request.prices).is_file():
        return None
    path = Path(request.prices)
    content = Place(path.absolute().parent).read(path.name)
    return None if content is None else (path.name, content)


def _judge(run: ListedRun, task: _Task) -> Outcome:
    """The outcome of a run, from the contents of its files alone."""
    try:
        scores, labels, notes = _cells(task)
        terms = task.request.terms
        if task.prices is not None:
            terms = replace(terms, horizon=terms.horizon or 1)
        judged = judge(task.name, join(scores, labels), terms, task.horizon)
    except Error as exc:
        return Outcome(run, reason=_line(exc))
    except (ValueError, ArithmeticError, MemoryError) as exc:
        return Outcome(run, reason=f"it cannot be judged: {type(exc).__name__}: {_line(exc)}")
    return Outcome(run, replace(judged, notes=(*notes, *judged.notes)))


def _cells(task: _Task) -> tuple[Cells, Cells, list[str]]:
    """Scores and labels, and how their columns were found."""
    names = task.request.names
    table = read_table(task.scores[1], task.scores[0], names)
    scores, notes = cells_of(table, "score", names, task.scores[0])
    if task.prices is not None:
        horizon = task.request.terms.horizon or 1
        prices, found = cells_of(
            read_table(task.prices[1], task.prices[0], names), "price", names, task.prices[0]
        )
        text = f"labels are returns over {horizon} session{'s' * (horizon > 1)} of the prices"
        return scores, forward_returns(prices, horizon), _unusual([*notes, *found, text])
    if task.labels is not None:
        name, content = task.labels
        labels, found = cells_of(read_table(content, name, names), "label", names, name)
    else:
        labels, found = cells_of(table, "label", names, task.scores[0])
    return scores, labels, _unusual([*notes, *found])


def _unusual(notes: Sequence[str]) -> list[str]:
    """The notes without those on files of qlib whose times and names are called as qlib does."""
    usual = tuple(f"{file}: time=datetime, entity=instrument, " for file in FILES)
    return [note for note in notes if not note.startswith(usual)]


def _horizon(run: ListedRun) -> tuple[int, str] | None:
    """The sessions that a label covers, from the params that qlib logs; None if they do not show.

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


def title(run: ListedRun) -> str:
    """What a run is called: its name, with the beginning of its id where it has none."""
    return run.name or f"run {run.run_id[:8]}"


def _line(exc: BaseException) -> str:
    return " ".join(str(exc).split())[:400]
