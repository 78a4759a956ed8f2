"""What a diagnosis finds: the kind of a fault, its parameters, and the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np

from .cells import Flags, Floats, SkewCells

__all__ = ["KINDS", "Example", "Finding"]

# Every kind, in the order from simple to complex, in which equally good explanations are taken.
KINDS = {
    "revised": "revised after serving",
    "written late": "written after the decision, dated before it",
    "missing": "missing in serving",
    "version": "another version of the feature",
    "filled": "filled",
    "rounded": "rounded",
    "shifted": "shifted",
    "stale": "stale",
    "sign": "sign",
    "scaled": "scaled",
    "offset": "offset",
    "column": "value of another feature",
    "clipped": "clipped",
    "standardised": "standardised",
    "affine": "affine",
    "entities": "entities exchanged",
    "known later": "known only later",
    "clock": "clock",
    "unexplained": "unexplained",
}
NO_FAULTS = ("revised",)  # of serving
EXAMPLES = 3


@dataclass(frozen=True)
class Example:
    """One cell: what was served, what research has, and what the explanation gives.

    Examples
    --------
    >>> Example(date(2024, 4, 18), "AAPL", 61.2, 40.0, 61.2).entity
    'AAPL'
    """

    session: date
    entity: str
    served: float | None
    research: float | None
    explained: float | None


@dataclass(frozen=True)
class Finding:
    """One explanation of the cells of a feature that differ.

    Attributes
    ----------
    kind
        A key of `KINDS`.
    text
        The explanation in words.
    parameters
        Its numbers, such as {"sessions": 1} or {"factor": 100.0}.
    cells, differing
        How many cells it explains, of how many that differ.
    residual
        The largest relative difference that remains in the cells explained.
    first, last
        The first and the last session with such a cell.
    sessions, entities
        In how many sessions, of how many entities.
    examples
        A few of the cells.

    Examples
    --------
    >>> day = date(2024, 4, 18)
    >>> found = Finding("sign", "sign exchanged", {}, 60, 60, 0.0, day, day, 1, 60)
    >>> found.share, found.is_fault
    (1.0, True)
    """

    kind: str
    text: str
    parameters: Mapping[str, Any]
    cells: int
    differing: int
    residual: float
    first: date
    last: date
    sessions: int
    entities: int
    examples: tuple[Example, ...] = field(default=())

    @property
    def share(self) -> float:
        """The share of the differing cells that it explains.

        Examples
        --------
        >>> day = date(2024, 4, 18)
        >>> Finding("sign", "sign exchanged", {}, 30, 60, 0.0, day, day, 1, 30).share
        0.5
        """
        return self.cells / self.differing if self.differing else 0.0

    @property
    def is_fault(self) -> bool:
        """Whether serving, or its inputs, went wrong: a later revision is no fault of serving.

        Examples
        --------
        >>> day = date(2024, 4, 18)
        >>> Finding("revised", "revised after serving", {}, 1, 1, 0.0, day, day, 1, 1).is_fault
        False
        """
        return self.kind not in NO_FAULTS


def finding(
    cells: SkewCells,
    explained: Flags,
    predicted: Floats,
    kind: str,
    text: str,
    parameters: Mapping[str, Any],
) -> Finding:
    """A finding with its evidence: the cells of `explained`, whose values are `predicted`."""
    at = np.flatnonzero(explained)
    rows = cells.row[at]
    return Finding(
        kind,
        text,
        dict(parameters),
        len(at),
        int(cells.differs.sum()),
        _residual(cells.served[at], predicted[at]),
        cells.sessions[int(rows.min())],
        cells.sessions[int(rows.max())],
        len(np.unique(rows)),
        len(np.unique(cells.column[at])),
        tuple(_example(cells, int(i), predicted) for i in _spread(at)),
    )


def _residual(served: Floats, predicted: Floats) -> float:
    both = np.isfinite(served) & np.isfinite(predicted)
    size = np.maximum(np.abs(served[both]), np.abs(predicted[both]))
    gap = np.abs(served[both] - predicted[both])[size > 0] / size[size > 0]
    return float(gap.max()) if len(gap) else 0.0


def _spread(at: np.ndarray) -> np.ndarray:
    """The first, the middle and the last cell."""
    return np.unique(at[np.linspace(0, len(at) - 1, min(EXAMPLES, len(at))).astype(int)])


def _example(cells: SkewCells, i: int, predicted: Floats) -> Example:
    return Example(
        cells.sessions[int(cells.row[i])],
        cells.entities[int(cells.column[i])],
        _number(cells.served[i]),
        _number(cells.expected[i]),
        _number(predicted[i]),
    )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
