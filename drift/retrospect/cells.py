"""A column of numbers, each with a session and a name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlflow_timescale.db import Error

from ..metrics.arrays import Floats

__all__ = ["Cells", "Codes", "Unusable"]

Codes = NDArray[np.int64]


class Unusable(Error, ValueError):
    """The contents of a recorder cannot be judged; the message is the reason."""


@dataclass(frozen=True)
class Cells:
    """A column of numbers with a session and a name for each row.

    Attributes
    ----------
    sessions
        Shape (rows,), datetime64[D].
    names
        Shape (rows,), positions in `labels`.
    labels
        The distinct names, sorted.
    values
        Shape (rows,), NaN for a missing value.
    notes
        Changes to the data.
    zone
        The time zone of the times; None for times without one.
    """

    sessions: NDArray[np.datetime64]
    names: Codes
    labels: tuple[str, ...]
    values: Floats
    notes: tuple[str, ...] = ()
    zone: str | None = None
