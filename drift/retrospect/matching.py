"""Which scores have no label, and why: names in other case, times in other zones, days left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .cells import Cells, Unusable

__all__ = ["nothing_in_common", "same_spelling", "sundays", "unlabelled"]

Days = NDArray[np.datetime64]
_FRIDAY, _SUNDAY = 4, 6  # as `date.weekday` counts


def same_spelling(scores: Cells, labels: Cells) -> tuple[Cells, list[str]]:
    """The labels with the names of the scores where the two differ in case only; and a note.

    Examples
    --------
    >>> day = np.array(["2024-01-02"], dtype="M8[D]")
    >>> scores = Cells(day, np.zeros(1, int), ("sh600000",), np.ones(1))
    >>> labels = Cells(day, np.zeros(1, int), ("SH600000",), np.ones(1))
    >>> same_spelling(scores, labels)[0].labels
    ('sh600000',)
    """
    ours, theirs = _by_folded(scores.labels), _by_folded(labels.labels)
    common = set(scores.labels) & set(labels.labels)
    renamed = {
        theirs[folded]: name
        for folded, name in ours.items()
        if folded in theirs and not {name, theirs[folded]} & common
    }
    if not renamed:
        return labels, []
    other, name = min(renamed.items())
    note = (
        f"{len(renamed):,} names differ in case only, such as {name} of the scores and {other} of "
        "the labels: they are taken as the same"
    )
    return replace(labels, labels=tuple(renamed.get(n, n) for n in labels.labels)), [note]


def nothing_in_common(scores: Cells, labels: Cells) -> Unusable:
    """The error for scores and labels of other names or sessions; it shows some of each."""
    return Unusable(
        f"scores and labels have no session and name in common: scores of {_extent(scores)}, "
        f"labels of {_extent(labels)}"
    )


def unlabelled(scores: Cells, labels: Cells, has_label: NDArray[np.bool_]) -> list[str]:
    """Notes on names and sessions whose scores have no label; the newest sessions have none yet.

    Parameters
    ----------
    scores, labels
        Cells whose names are spelled alike.
    has_label
        Shape (rows,): whether a row of the scores has a label.

    Raises
    ------
    Unusable
        Sessions lack labels because the times of the two files are in different zones.
    """
    notes = []
    lacking = sorted(set(scores.labels) - set(labels.labels))
    if lacking:
        notes.append(
            f"{len(lacking):,} of {len(scores.labels):,} names with scores have no label, such as "
            f"{lacking[0]}"
        )
    days, labelled = np.unique(scores.sessions), np.unique(scores.sessions[has_label])
    past = days[days < labelled[-1]] if len(labelled) else days[:0]
    blank = np.setdiff1d(past, labelled)
    if not len(blank):
        return notes
    text = f"{len(blank):,} of {len(days):,} sessions with scores have no label, such as {blank[0]}"
    if _fit_better(past, np.unique(labels.sessions), len(blank)):
        raise Unusable(
            f"{text}, and a day earlier or later more of them would have: times of the scores "
            f"{_zone(scores)}, times of the labels {_zone(labels)}, and a time counts by its date; "
            "write both in the zone of the exchange (pandas: tz_convert)"
        )
    return [*notes, text]


def _fit_better(days: Days, others: Days, blank: int) -> bool:
    """Whether a shift by a day matches more days, as it does for midnights of another zone."""
    return any(len(np.setdiff1d(days + step, others)) < blank for step in (-1, 1))


def sundays(scores: Cells) -> list[str]:
    """A note where sessions of times in UTC are Sundays and no Fridays: midnights of the East."""
    days = (np.unique(scores.sessions).astype(np.int64) + 3) % 7
    if scores.zone != "UTC" or _SUNDAY not in days or _FRIDAY in days:
        return []
    return [
        "sessions are Sundays and no Fridays, because a time counts by its date, here in UTC: "
        "convert the times to the zone of the exchange (pandas: tz_convert)"
    ]


def _by_folded(names: Sequence[str]) -> dict[str, str]:
    """Names by their case-folded form, if no two names share it."""
    counts = Counter(name.casefold() for name in names)
    return {name.casefold(): name for name in names if counts[name.casefold()] == 1}


def _extent(cells: Cells) -> str:
    names = ", ".join(cells.labels[:2]) + (", ..." if len(cells.labels) > 2 else "")
    return f"{names} from {cells.sessions.min()} to {cells.sessions.max()}"


def _zone(cells: Cells) -> str:
    return f"are in {cells.zone}" if cells.zone else "have no zone"
