"""One feature as it was served and as research has it: the arrays that a diagnosis compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["TOLERANCE", "SkewCells", "same"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Positions = NDArray[np.intp]

TOLERANCE = 1e-9  # relative, of values that the caller's own code computed
BITS = 30.0  # that a value of tolerance 1e-9 carries


def same(left: Floats, right: Floats, tolerance: float) -> Flags:
    """Where two arrays agree: NaN with NaN, numbers within a tolerance relative to the larger.

    >>> same(np.array([1.0, np.nan, 0.1]), np.array([1.0, np.nan, 0.1 + 1e-12]), 1e-9).tolist()
    [True, True, True]
    >>> bool(same(np.array(0.1), np.array(np.float64(np.float32(0.1))), 1e-9))
    False
    """
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.abs(left - right) <= tolerance * np.maximum(np.abs(left), np.abs(right))
    agree: Flags = (left == right) | (np.isfinite(left) & np.isfinite(right) & near)
    return agree | (np.isnan(left) & np.isnan(right))


@dataclass(frozen=True)
class SkewCells:
    """c served cells of one feature, and the values of research beside them.

    Attributes
    ----------
    sessions, entities
        The S consecutive sessions and N entities of `grid`.
    row, column
        The session and the entity of each cell: positions in these, shape (c,).
    served, expected
        What the model was given, and what research knows that it should have been; shape (c,), NaN
        where there is no number.
    grid
        The values of research by session and entity, shape (S, N), for the sessions before and
        after that a fault may have taken its values from.
    known_then
        Where research is no point-in-time value: the value that was known at the decision, (c,).
    written
        The point-in-time value without what was written after the decision, (c,).
    now
        What is known today of the same event, (c,).
    others, versions
        The values of other features, and of other versions of this one, by name; (c,) each.
    tolerance
        Relative; 0 compares exactly.

    Examples
    --------
    >>> grid = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> cells = SkewCells.of_grid([date(2024, 1, 2), date(2024, 1, 3)], ["A", "B"], grid, grid)
    >>> cells.differs.any()
    np.False_
    """

    sessions: Sequence[date]
    entities: Sequence[str]
    row: Positions
    column: Positions
    served: Floats
    expected: Floats
    grid: Floats
    known_then: Floats | None = None
    written: Floats | None = None
    now: Floats | None = None
    others: Mapping[str, Floats] = field(default_factory=dict)
    versions: Mapping[str, Floats] = field(default_factory=dict)
    tolerance: float = TOLERANCE

    @classmethod
    def of_grid(
        cls,
        sessions: Sequence[date],
        entities: Sequence[str],
        served: Floats,
        research: Floats,
        *,
        others: Mapping[str, Floats] | None = None,
        versions: Mapping[str, Floats] | None = None,
        tolerance: float = TOLERANCE,
    ) -> SkewCells:
        """Cells of two matrices of shape (sessions, entities): every cell of `served` was served.

        Parameters
        ----------
        sessions, entities
            The labels of the rows and columns.
        served, research
            The two matrices; NaN where there is no number.
        others, versions
            Matrices of the same shape by name.
        tolerance
            Relative; 0 compares exactly.
        """
        row, column = (index.reshape(-1) for index in np.indices(served.shape))
        return cls(
            sessions,
            entities,
            row,
            column,
            served.reshape(-1),
            research.reshape(-1),
            research,
            others={name: values.reshape(-1) for name, values in (others or {}).items()},
            versions={name: values.reshape(-1) for name, values in (versions or {}).items()},
            tolerance=tolerance,
        )

    def __len__(self) -> int:
        return len(self.served)

    @cached_property
    def differs(self) -> Flags:
        """Which cells differ, shape (c,)."""
        differs: Flags = ~same(self.served, self.expected, self.tolerance)
        return differs

    @cached_property
    def scale(self) -> float:
        """The usual size of the feature: the median of the absolute values, 1 without any."""
        known = np.abs(self.grid[np.isfinite(self.grid) & (self.grid != 0)])
        return float(np.median(known)) if len(known) else 1.0

    @cached_property
    def weights(self) -> Floats:
        """What a cell weighs, shape (c,): 1, or less for a value that many cells have by chance.

        A value that a share f of the cells has carries -log2 f bits of the 30 of an unusual one.
        """
        known = np.sort(self.grid[np.isfinite(self.grid)])
        slack = np.abs(self.served) * max(self.tolerance, 1e-12)
        count = np.searchsorted(known, self.served + slack, "right") - np.searchsorted(
            known, self.served - slack, "left"
        )
        share = np.maximum(count, 1) / max(len(known), 1)
        weights: Floats = np.clip(-np.log2(share) / BITS, 0.0, 1.0)
        return np.where((count <= 1) | np.isnan(self.served), 1.0, weights)

    def at(self, rows: Positions) -> Floats:
        """The values of research of each cell's entity in other sessions; NaN outside of the grid.

        Parameters
        ----------
        rows
            Positions in `sessions`, shape (c,).
        """
        inside = (rows >= 0) & (rows < len(self.sessions))
        values: Floats = self.grid[np.clip(rows, 0, len(self.sessions) - 1), self.column]
        return np.where(inside, values, np.nan)
