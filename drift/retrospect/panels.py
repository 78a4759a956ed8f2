"""Scores and labels of one model, joined by session and name; sessions are in order.

A panel is made of two columns of cells, each with a time and a name. Data that cannot be used
raises Unusable with the reason; each change that makes data usable is a note.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from mlflow_timescale.common.frames import Labels

from ..metrics.arrays import Floats
from ..metrics.plausible_returns import LARGEST_MEDIAN
from .cells import Cells, Codes, Unusable
from .matching import nothing_in_common, same_spelling, sundays, unlabelled

__all__ = ["Panel", "join", "make_cells"]

_HOUR_OFFSET = 6  # characters of an offset such as +08:00


@dataclass(frozen=True)
class Panel:
    """The scores and labels of a model, by session.

    Attributes
    ----------
    sessions
        In order.
    starts
        Shape (sessions + 1,): the rows of session i are `starts[i]` to `starts[i + 1]`.
    names
        Shape (rows,), a number for each name.
    scores, labels
        Shape (rows,), NaN for a missing value.
    notes
        Changes to the data.
    """

    sessions: tuple[date, ...]
    starts: Codes
    names: Codes
    scores: Floats
    labels: Floats
    notes: tuple[str, ...] = ()

    def rows(self, session: int) -> slice:
        """The rows of a session, by its position."""
        return slice(int(self.starts[session]), int(self.starts[session + 1]))


def make_cells(times: Labels, names: Labels, values: Labels, what: str) -> Cells:
    """The cells of a column.

    Parameters
    ----------
    times, names, values
        Columns of the same rows. A time counts by its date, in its own zone.
    what
        Name of the column, for notes and errors.

    Raises
    ------
    Unusable
        The times or values have another type, or a name has two values in one session.
    """
    notes: list[str] = []
    moments, codes = _moments(times)
    labels, name_codes = _texts(names)
    numbers = _numbers(values, what)
    usable = (codes >= 0) & (name_codes >= 0)
    if not usable.all():
        notes.append(f"{what}: {int((~usable).sum()):,} rows without a time or a name are left out")
    moment = np.where(usable, moments[codes], np.datetime64("NaT")) if len(moments) else moments
    moment, name_codes, numbers = moment[usable], name_codes[usable], numbers[usable]
    if not len(moment):
        raise Unusable(f"{what} has no rows")
    days = moment.astype("M8[D]")
    keep = _last_of_day(days, moment, name_codes, notes, what)
    days, name_codes, numbers = days[keep], name_codes[keep], numbers[keep]
    keep = _without_repeats(days, name_codes, numbers, labels, notes, what)
    return Cells(days[keep], name_codes[keep], labels, numbers[keep], tuple(notes), times.zone)


def join(scores: Cells, labels: Cells, horizon: int = 1) -> Panel:
    """Scores and labels by session and name; scores without a label keep NaN.

    `horizon` is the number of sessions that a label covers, as far as it is known: the size of a
    return grows with its root.
    Raises Unusable if they have no session and name in common, or no row has both values.
    """
    labels, spelling = same_spelling(scores, labels)
    names = tuple(sorted({*scores.labels, *labels.labels}))
    days = np.unique(scores.sessions)
    position = {name: index for index, name in enumerate(names)}
    keys = [_keys(cells, days, position) for cells in (scores, labels)]
    order = np.argsort(keys[0], kind="stable")
    key, values = keys[0][order], scores.values[order]
    label_order = np.argsort(keys[1], kind="stable")
    label_key = keys[1][label_order]
    at = np.minimum(np.searchsorted(label_key, key), len(label_key) - 1)
    hit = label_key[at] == key
    if not hit.any():
        raise nothing_in_common(scores, labels)
    matched = np.where(hit, labels.values[label_order][at], np.nan)
    if not (np.isfinite(values) & np.isfinite(matched)).any():
        raise Unusable("no name has both a score and a label: all are missing")
    starts = np.searchsorted(key, np.arange(len(days) + 1) * len(names))
    has_label = np.zeros(len(order), dtype=bool)
    has_label[order] = np.isfinite(matched)
    notes = (
        *(*scores.notes, *labels.notes, *spelling, *unlabelled(scores, labels, has_label)),
        *(*sundays(scores), *_plausibility(values, matched, horizon)),
    )
    return Panel(
        sessions=tuple(days.tolist()),
        starts=starts.astype(np.int64),
        names=key % len(names),
        scores=values,
        labels=matched,
        notes=notes,
    )


def _plausibility(scores: Floats, labels: Floats, horizon: int) -> list[str]:
    notes = []
    missing = int((~np.isfinite(scores)).sum())
    if missing:
        notes.append(f"{missing:,} of {len(scores):,} scores are missing")
    sizes = np.abs(labels[np.isfinite(labels)])
    if np.median(sizes) > LARGEST_MEDIAN * horizon**0.5:
        notes.append(
            f"labels have a median size of {np.median(sizes):.2g}: they are no returns in "
            "fractions, and the Sharpe ratio is that of a book that earns them"
        )
    return notes


def _keys(cells: Cells, days: NDArray[np.datetime64], position: dict[str, int]) -> Codes:
    """A number for each row, ordered by session and name; -1 for a session without scores."""
    codes = np.array([position[label] for label in cells.labels], dtype=np.int64)
    day = np.minimum(np.searchsorted(days, cells.sessions), len(days) - 1)
    key = day * len(position) + codes[cells.names]
    return np.where(days[day] == cells.sessions, key, -1).astype(np.int64)


def _last_of_day(
    days: NDArray[np.datetime64],
    moments: NDArray[np.datetime64],
    names: Codes,
    notes: list[str],
    what: str,
) -> Codes:
    """The rows of the last time of each day and name, if a day has several times."""
    times, sessions = np.unique(moments), np.unique(days)
    if len(times) == len(sessions):
        return np.arange(len(days))
    notes.append(f"{what}: days have several times; the last one of each name counts")
    order = np.lexsort((moments, names, days))
    ends = np.ones(len(order), dtype=bool)
    same = (days[order][1:] == days[order][:-1]) & (names[order][1:] == names[order][:-1])
    later = moments[order][1:] != moments[order][:-1]
    ends[:-1] = ~(same & later)
    return np.sort(order[ends])


def _without_repeats(
    days: NDArray[np.datetime64],
    names: Codes,
    values: Floats,
    labels: Sequence[str],
    notes: list[str],
    what: str,
) -> Codes:
    """The first row of each session and name; raises Unusable where a second one differs."""
    order = np.lexsort((names, days))
    repeats = np.zeros(len(order), dtype=bool)
    repeats[1:] = (days[order][1:] == days[order][:-1]) & (names[order][1:] == names[order][:-1])
    if not repeats.any():
        return np.arange(len(days))
    at = np.flatnonzero(repeats)
    before, after = values[order[at - 1]], values[order[at]]
    differing = at[(before != after) & ~(np.isnan(before) & np.isnan(after))]
    if len(differing):
        row = order[differing[0]]
        raise Unusable(
            f"{what} has two values for {labels[names[row]]!r} in {days[row]}, and "
            f"{len(differing) - 1:,} more such rows"
        )
    notes.append(f"{what}: {len(at):,} rows are there twice, and count once")
    return np.sort(order[~repeats])


def _moments(times: Labels) -> tuple[NDArray[np.datetime64], Codes]:
    """Distinct local times, and a code for each row, -1 where it is missing."""
    values, codes = times.values, times.codes
    if values.dtype.kind != "M":
        values = _parsed(values, times.name)
    values = values.astype("M8[us]")
    if codes is None:
        values, codes = np.unique(values, return_inverse=True)
    codes = np.where(codes < 0, -1, codes).astype(np.int64)
    missing = np.isnat(values)
    if missing.any():
        codes = np.where((codes >= 0) & missing[codes], -1, codes)
    return _local(values, times.zone), codes


def _parsed(values: NDArray[np.generic], name: str) -> NDArray[np.datetime64]:
    """Dates, and texts in ISO 8601 such as 2020-01-02 or 20200102, as times."""
    try:
        return np.array([_moment(value) for value in values.tolist()], dtype="M8[us]")
    except (ValueError, TypeError) as exc:
        raise Unusable(
            f"{name or 'its index'} holds no times: {exc}; write them as 2024-01-15 or 20240115"
        ) from exc


def _moment(value: object) -> np.datetime64:
    if value is None or value != value:
        return np.datetime64("NaT")
    if isinstance(value, (date, datetime)):
        naive = value.replace(tzinfo=None) if isinstance(value, datetime) else value
        return np.datetime64(naive)
    text = f"{value:d}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    if len(text) == 8 and text.isdigit():
        text = f"{text[:4]}-{text[4:6]}-{text[6:]}"
    parsed = datetime.fromisoformat(text)
    return np.datetime64(parsed.replace(tzinfo=None))


def _local(values: NDArray[np.datetime64], zone: str | None) -> NDArray[np.datetime64]:
    """Times in UTC as local times of a zone."""
    if zone is None or zone == "UTC" or not len(values):
        return values
    if zone[:1] in "+-" and len(zone) == _HOUR_OFFSET:
        minutes = int(zone[1:3]) * 60 + int(zone[4:6])
        shift = np.timedelta64(-minutes if zone[0] == "-" else minutes, "m")
        return values + shift
    try:
        place = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError) as exc:
        raise Unusable(f"its times are in the zone {zone!r}, which is not known here") from exc
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    local = [
        np.datetime64("NaT")
        if np.isnat(value)
        else np.datetime64(
            (epoch + timedelta(microseconds=int(value.astype(np.int64))))
            .astimezone(place)
            .replace(tzinfo=None)
        )
        for value in values
    ]
    return np.array(local, dtype="M8[us]")


def _texts(names: Labels) -> tuple[tuple[str, ...], Codes]:
    """The distinct names, sorted, and a code for each row, -1 where it is missing."""
    values = [None if v is None or v != v else _text(v) for v in names.values.tolist()]
    distinct = sorted({value for value in values if value is not None})
    position: dict[str | None, int] = {value: index for index, value in enumerate(distinct)}
    position[None] = -1
    codes = np.array([position[value] for value in values], dtype=np.int64)
    if names.codes is None:
        return tuple(distinct), codes
    if not len(codes):
        return tuple(distinct), np.full(len(names.codes), -1, dtype=np.int64)
    return tuple(distinct), np.where(names.codes < 0, -1, codes[names.codes])


def _text(value: object) -> str:
    """A name; a number without a fraction is written without a decimal point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _numbers(column: Labels, what: str) -> Floats:
    if column.unread:
        raise Unusable(f"{what}: {column.unread}")
    values = column.values if column.codes is None else column.values[column.codes]
    if values.dtype.kind not in "biufO":
        raise Unusable(f"{what} holds no numbers")
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError) as exc:
        raise Unusable(f"{what} holds no numbers: {exc}") from exc
    return np.where(np.isinf(numbers), np.nan, numbers)
