"""Cells of a training set whose entity is not part of a universe at the row's as_of."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from mlflow_timescale import db

from ..catalogue import universes
from .spine import Spine, slices

Mask = npt.NDArray[np.bool_]


class OutsideUniverse(UserWarning):
    """Cells are empty, because their entity was not part of the universe at their as_of."""


def outside(conn: db.Connection, spine: Spine, universe: Any, features: int) -> Mask:
    """Which cells lie outside of a universe, shape (features, rows).

    `universe` is the name of a recorded one, or a frame as `record_universe` takes it.
    """
    known = (
        universes.find(conn, universe) if isinstance(universe, str) else universes.read(universe)
    )
    mask = np.zeros((features, len(spine)), dtype=bool)
    for group in spine.groups:
        for code, rows, as_of in slices(group, spine.as_of):
            gone = rows[~known.contains(group.entities[code], as_of)]
            mask[np.ix_(np.array(group.features), gone)] = True
    return mask


def warn(mask: Mask, universe: Any) -> None:
    """Tell the caller of `training_frame` how many rows lie outside."""
    rows = int(mask.any(axis=0).sum())
    if rows:
        name = f"universe {universe!r}" if isinstance(universe, str) else "the universe"
        warnings.warn(
            f"{rows} of {mask.shape[1]} rows lie outside of {name}, and their cells are empty; "
            f"explain(..., universe=) names them",
            OutsideUniverse,
            stacklevel=4,
        )
