"""Everything that commands print: one console, one kind of table, messages, JSON, progress bars.

Text from outside (names, paths, reasons) is printed as it is: no markup, no emoji codes, no links,
control characters escaped. On a terminal tables are folded to its width; in a pipe or a file every
row is one line without trailing blanks.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_timescale.common.text import printable
from mlflow_timescale.common.time import format_duration
from mlflow_timescale.db.masking import without_secrets

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

GAP = 2  # blanks between columns
# On a terminal, columns that are wider than the first may be folded, down to the second.
UNFOLDED, FOLDED = 28, 20


class Cell(NamedTuple):
    """A value with a style of rich, such as "red"."""

    value: Any
    style: str = ""


def cell_text(value: Any) -> str:
    """A value as people read it: times in UTC, six digits of a number, nothing for None.

    Examples
    --------
    >>> cell_text(1 / 3), cell_text(None), cell_text(timedelta(hours=36))
    ('0.333333', '', '1d 12h')
    >>> cell_text(datetime(2024, 1, 12, 21, tzinfo=timezone.utc))
    '2024-01-12 21:00Z'
    """
    if _is_missing(value):
        return ""
    if isinstance(value, datetime):
        text = value.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")
        return text.removesuffix(".000000").removesuffix(":00") + "Z"
    if isinstance(value, timedelta) and value >= timedelta(0):
        return format_duration(value)
    return printable(f"{value:.6g}" if isinstance(value, float) else str(value))


def jsonable(value: Any) -> Any:
    """A value as strict JSON holds it: times in ISO 8601, "NaN" as a text, dataclasses as objects.

    Examples
    --------
    >>> jsonable({"ic": float("nan"), "day": date(2024, 1, 12), "age": timedelta(days=3)})
    {'ic': 'NaN', 'day': '2024-01-12', 'age': '3d'}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item) for item in value]
    return _json_scalar(value)


def _json_scalar(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else json.dumps(value)
    if isinstance(value, (bool, int, str)):
        return value
    if _is_missing(value):
        return None
    if isinstance(value, date):  # datetimes too
        return value.isoformat()
    return cell_text(value) or None


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NaTType", "NAType")


def tolerate_any_encoding() -> None:
    """Escape what an output that is not UTF-8 cannot hold, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def console(*, stderr: bool = False) -> Console:
    """The only configuration of a console; it writes to today's standard output or error."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def print_message(text: str, *, style: str = "", stderr: bool = False) -> None:
    """Print one line; a terminal folds it itself, so that it can be copied whole."""
    from rich.text import Text

    console(stderr=stderr).print(Text(printable(text), style))


def print_error(text: str) -> None:
    """Print one line on standard error, without secrets of URIs."""
    line = " ".join(without_secrets(text).split())
    print_message(f"Error: {line}", style="red", stderr=True)


def print_json(content: Any) -> None:
    """Print strict JSON in ASCII."""
    _write(json.dumps(jsonable(content), indent=2, allow_nan=False))


def print_columns(columns: Mapping[str, Iterable[Any]], as_json: bool) -> None:
    """Print columns of one length as a table without its empty columns, or as a list of objects."""
    names = list(columns)
    rows = list(zip(*(_plain_list(columns[name]) for name in names), strict=True))
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    filled = [i for i in range(len(names)) if not rows or any(cell_text(row[i]) for row in rows)]
    print_table([names[i] for i in filled], [[row[i] for i in filled] for row in rows])


def _write(line: str) -> None:
    """Print a line; click's echo would write UTF-8 where the output is ASCII."""
    sys.stdout.write(f"{line}\n")


def _plain_list(column: Iterable[Any]) -> list[Any]:
    """The Python objects of a list, numpy array or pandas Series."""
    return list(column.tolist() if hasattr(column, "tolist") else column)


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table: columns of numbers to the right, the rest to the left.

    Parameters
    ----------
    header
        The names of the columns; all empty for none.
    rows
        Values or `Cell`s.
    """
    cells = [[c if isinstance(c, Cell) else Cell(c) for c in row] for row in rows]
    texts = [[cell_text(cell.value) for cell in row] for row in cells]
    right = [_is_numeric(row[i].value for row in cells) for i in range(len(header))]
    if not sys.stdout.isatty():
        for line in _lines(header, texts, right):
            _write(line)
        return
    widths = _widths([header, *texts])
    columns = sum(min(width, FOLDED) if width > UNFOLDED else width for width in widths)
    if columns + GAP * (len(widths) - 1) <= console().width:
        _print_grid(header, cells, right, widths)
    else:
        _print_records(header, cells)


def _is_numeric(values: Iterable[Any]) -> bool:
    present = [value for value in values if not _is_missing(value)]
    return bool(present) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in present
    )


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    from rich.cells import cell_len

    return [max(map(cell_len, column)) for column in zip(*rows, strict=True)]


def _lines(
    header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]
) -> Iterator[str]:
    """Aligned lines of any length, without trailing blanks.

    >>> list(_lines(["name", "n"], [["a", "10"], ["long name", "9"]], [False, True]))
    ['name        n', 'a          10', 'long name   9']
    """
    from rich.cells import cell_len

    table = [header, *rows] if any(header) else rows
    widths = _widths([header, *rows])
    for row in table:
        padded = []
        for text, width, to_right in zip(row, widths, right, strict=True):
            blanks = " " * (width - cell_len(text))
            padded.append(blanks + text if to_right else text + blanks)
        yield (" " * GAP).join(padded).rstrip()


def _print_grid(
    header: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    right: Sequence[bool],
    widths: Sequence[int],
) -> None:
    """A table for a terminal; only wide columns are folded, with blank lines between such rows."""
    from rich.table import Table
    from rich.text import Text

    terminal = console()
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=any(header))
    for name, width, to_right in zip(header, widths, right, strict=True):
        justify: Any = "right" if to_right else "left"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=width <= UNFOLDED)
    is_folded = sum(widths) + GAP * (len(widths) - 1) > terminal.width
    for number, row in enumerate(rows):
        if number and is_folded:
            table.add_row()
        table.add_row(*(Text(cell_text(cell.value), cell.style) for cell in row))
    terminal.print(table, soft_wrap=False)


def _print_records(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """A line for each value, where a table is too wide for the terminal."""
    from rich.text import Text

    width = max(map(len, header)) + GAP
    for number, row in enumerate(rows):
        if number:
            print_message("")
        for name, cell in zip(header, row, strict=True):
            if text := cell_text(cell.value):
                label = Text(name.ljust(width) if any(header) else "", "bold")
                console().print(label.append(Text(text, cell.style or "not bold")))


@contextmanager
def progress(*columns: Any, quiet: bool = False, transient: bool = True) -> Iterator[Progress]:
    """A progress bar on standard error, where that is a terminal."""
    from rich.progress import Progress

    err = console(stderr=True)
    bar = Progress(*columns, console=err, transient=transient, disable=quiet or not err.is_terminal)
    with bar:
        yield bar


@contextmanager
def counted_progress(name: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar; the block calls the function with the counts of done and of all items."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with progress(*columns, quiet=quiet) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def note_printer(*, quiet: bool) -> Callable[[str], None]:
    """A function that prints a line as a note on standard error, unless `quiet`."""

    def print_note(line: str) -> None:
        if not quiet:
            print_message(line, style="yellow", stderr=True)

    return print_note
