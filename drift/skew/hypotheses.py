"""What may have happened to a feature: each hypothesis predicts the values that were served.

These take the values of another session, version, feature or entity; `fits` has those that
transform a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .cells import BITS, Flags, Floats, SkewCells, same
from .findings import KINDS

__all__ = ["Hypothesis", "choice", "exchanges", "substitutes"]

SHIFTS = tuple(sorted((k for k in range(-5, 6) if k), key=abs))  # sessions, the nearest first
SAMPLED = 5  # cells of an entity from which the entity is guessed whose values it has
ONSETS = 6  # sessions in which a job may have stopped that are tried


@dataclass(frozen=True)
class Hypothesis:
    """One explanation: the values that it predicts, and where it predicts any.

    Attributes
    ----------
    kind, text, parameters
        As in a finding.
    predicted
        The values that would have been served, shape (c,); NaN for no number.
    applies
        The cells for which it predicts a value, shape (c,).
    cost
        What its parameters carry, in values: 1 for a fitted number, log2(n)/30 for a choice
        among n.
    is_whole
        It would have changed every cell of the sessions and entities that it explains, so that
        cells which agree with research may contradict it.
    slack
        The size below which a difference is rounding, absolute, for values that are recomputed.
    """

    kind: str
    text: str
    predicted: Floats
    applies: Flags
    cost: float
    parameters: Mapping[str, Any] = field(default_factory=dict)
    is_whole: bool = True
    slack: float = 0.0

    def matches(self, served: Floats, tolerance: float) -> Flags:
        """Where it predicts what was served."""
        with np.errstate(invalid="ignore"):
            near = np.abs(served - self.predicted) <= self.slack
        return self.applies & (same(served, self.predicted, tolerance) | near)

    @property
    def order(self) -> int:
        """The place of its kind from simple to complex."""
        return list(KINDS).index(self.kind)


def choice(among: int) -> float:
    """The cost of a choice among n alternatives, in values.

    >>> choice(1), round(choice(10), 2)
    (0.0, 0.11)
    """
    return float(np.log2(max(among, 1)) / BITS)


def substitutes(cells: SkewCells, left: Flags) -> Iterator[Hypothesis]:
    """Values that come from elsewhere; `left` are the cells that are not explained yet."""
    yield from _of_clocks(cells)
    yield _missing(cells)
    yield from _shifted(cells)
    yield from _stale(cells, left)
    # Where the other value is NaN, no value was served.
    everywhere = np.ones(len(cells), dtype=bool)
    for kind, text, group in (
        ("version", "version {}", cells.versions),
        ("column", "value of {}", cells.others),
    ):
        for name, values in group.items():
            cost = choice(len(group)) + 0.05
            yield Hypothesis(kind, text.format(name), values, everywhere, cost, {kind: name})


def _of_clocks(cells: SkewCells) -> Iterator[Hypothesis]:
    """What the store held, or research knew, at another moment."""
    moments = (
        ("revised", "equal to what was known at the decision", cells.known_then, 0.0),
        ("written late", "equal to what the store held at the decision", cells.written, 0.0),
        ("known later", "equal to what was known only after the decision", cells.now, 0.05),
    )
    for kind, text, values, cost in moments:
        if values is not None:
            applies = ~same(values, cells.expected, cells.tolerance)
            # Without a value, nothing was there to serve; `missing` is the simpler word for it.
            applies &= ~np.isnan(values) | (kind == "written late")
            yield Hypothesis(kind, text, values, applies, cost, is_whole=False)


def _missing(cells: SkewCells) -> Hypothesis:
    nothing = np.full(len(cells), np.nan)
    text = "no value was served"
    return Hypothesis("missing", text, nothing, np.isfinite(cells.expected), 0.02, is_whole=False)


def _shifted(cells: SkewCells) -> Iterator[Hypothesis]:
    for k in SHIFTS:
        rows = cells.row - k
        inside = (rows >= 0) & (rows < len(cells.sessions))
        sign = "-" if k > 0 else "+"
        text = f"value served at t = research value of t{sign}{abs(k)}"
        cost = choice(len(SHIFTS)) + 0.002 * abs(k)
        yield Hypothesis("shifted", text, cells.at(rows), inside, cost, {"sessions": k})


def _stale(cells: SkewCells, left: Flags) -> Iterator[Hypothesis]:
    """The values of one session, served in all later ones."""
    first = np.full(len(cells.entities), len(cells.sessions))
    np.minimum.at(first, cells.column[left], cells.row[left])
    starts, counts = np.unique(first[first < len(cells.sessions)], return_counts=True)
    onsets = starts[np.argsort(-counts, kind="stable")][:ONSETS]
    sources = sorted({int(s) - k for s in onsets for k in range(1, 6) if s - k >= 0}, reverse=True)
    for source in sources:
        values = np.where(cells.row > source, cells.grid[source, cells.column], np.nan)
        session = cells.sessions[source]
        text = f"the job stopped: values of {session} served since"
        cost = choice(ONSETS * 5)
        yield Hypothesis(
            "stale", text, values, cells.row > source, cost, {"session": session.isoformat()}
        )


def exchanges(cells: SkewCells, left: Flags) -> Iterator[Hypothesis]:
    """The values of another entity of the same session."""
    mapping = _mapping(cells, left)
    if not mapping:
        return
    source = np.arange(len(cells.entities))
    source[list(mapping)] = list(mapping.values())
    values = cells.grid[cells.row, source[cells.column]]
    is_mapped = np.isin(cells.column, list(mapping))
    names = {cells.entities[to]: cells.entities[of] for to, of in mapping.items()}
    cost = 0.05 + len(mapping) * choice(len(cells.entities))
    yield Hypothesis("entities", _mapped(names), values, is_mapped, cost, {"values_of": names})


def _mapping(cells: SkewCells, left: Flags) -> dict[int, int]:
    """By entity, the other one whose values it was given, if one explains most of its cells."""
    at = np.flatnonzero(left & np.isfinite(cells.served))
    if not len(at):
        return {}
    order = at[np.argsort(cells.column[at], kind="stable")]
    mapping = {}
    price = choice(len(cells.entities))
    columns, starts = np.unique(cells.column[order], return_index=True)
    for column, part in zip(columns.tolist(), np.split(order, starts[1:]), strict=True):
        sample = part[np.linspace(0, len(part) - 1, min(SAMPLED, len(part))).astype(int)]
        hits = same(cells.served[sample][:, None], cells.grid[cells.row[sample]], cells.tolerance)
        hits[:, column] = False
        score = cells.weights[sample] @ hits
        best = int(np.argmax(score))
        # The rest of its cells may be explained otherwise: most of the sample is enough.
        if score[best] > price and 2 * hits[:, best].sum() > len(sample):
            mapping[column] = best
    return mapping


def _mapped(names: Mapping[str, str]) -> str:
    """The exchange in words, at most three of them.

    >>> _mapped({"A": "B", "B": "A"}), _mapped({"A": "B"})
    ('A and B exchanged', 'A has the values of B')
    """
    parts, listed = [], set()
    for to, of in names.items():
        if names.get(of) == to and of not in listed:
            parts.append(f"{to} and {of} exchanged")
        elif names.get(of) != to:
            parts.append(f"{to} has the values of {of}")
        listed.add(to)
    more = f", and {len(parts) - 3} more" if len(parts) > 3 else ""
    return ", ".join(parts[:3]) + more
