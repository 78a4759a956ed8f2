"""The cells of a training set while it is read: matrices of (features, rows)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mlflow_timescale.common.micros import MISSING, Micros

from ..catalogue.series import Positions
from ..values.encoding import Floats, is_there
from .ages import AgeLimit


@dataclass(frozen=True)
class Winners:
    """What won in some cells of one feature: the rows of the spine, and a point for each."""

    feature: int
    rows: Positions
    series: int
    version: int
    event: Micros
    ingest: Micros
    value: Floats
    write: npt.NDArray[np.int64] | None
    has_json: bool


@dataclass
class Cells:
    """The winner of each cell. An event of MISSING means no hit."""

    value: npt.NDArray[np.float64]
    event: npt.NDArray[np.int64]
    ingest: npt.NDArray[np.int64] | None = None
    write: npt.NDArray[np.int64] | None = None
    version: npt.NDArray[np.int32] | None = None
    structures: dict[int, npt.NDArray[np.object_]] = field(default_factory=dict)
    _pending: list[Winners] = field(default_factory=list)

    @classmethod
    def empty(cls, features: int, rows: int, *, details: bool, versions: bool) -> Cells:
        """Cells without winners; `details` keeps ingest times and writes, too."""
        shape = (features, rows)
        return cls(
            np.full(shape, np.nan),
            np.full(shape, MISSING, dtype=np.int64),
            np.full(shape, MISSING, dtype=np.int64) if details else None,
            np.zeros(shape, dtype=np.int64) if details else None,
            np.zeros(shape, dtype=np.int32) if details or versions else None,
        )

    def put(self, winners: Winners) -> None:
        """Enter winners; those of a higher version must come after those of a lower one."""
        at = (winners.feature, winners.rows)
        self.value[at] = winners.value
        self.event[at] = winners.event
        if self.ingest is not None:
            self.ingest[at] = winners.ingest
        if self.write is not None and winners.write is not None:
            self.write[at] = winners.write
        if self.version is not None:
            self.version[at] = winners.version
        if winners.has_json:
            self._pending.append(winners)

    def expire(
        self, as_of: Micros, limits: Sequence[tuple[AgeLimit, ...]]
    ) -> npt.NDArray[np.bool_]:
        """Drop winners that are older at as_of than a limit of their feature; return which."""
        expired = np.zeros(self.event.shape, dtype=bool)
        for feature, rules in enumerate(limits):
            hits = np.flatnonzero(self.event[feature] != MISSING)
            for rule in rules:
                expired[feature, hits] |= rule.expired(self.event[feature, hits], as_of[hits])
        self.value[expired] = np.nan
        self.event[expired] = MISSING
        for feature, structures in self.structures.items():
            structures[expired[feature]] = None
        return expired

    def empty_out(self, mask: npt.NDArray[np.bool_]) -> None:
        """Drop the winners of these cells."""
        self.value[mask] = np.nan
        self.event[mask] = MISSING
        for feature, structures in self.structures.items():
            structures[mask[feature]] = None

    def pending(self) -> list[Winners]:
        """Winners whose values may be structures, which are fetched separately."""
        return self._pending

    def put_structures(self, winners: Winners, values: npt.NDArray[np.object_]) -> None:
        """Enter the structures of winners, unless a higher version has won there since."""
        column = self.structures.setdefault(
            winners.feature, np.full(self.value.shape[1], None, dtype=object)
        )
        rows = winners.rows
        if self.version is not None:
            still = self.version[winners.feature, rows] == winners.version
            rows, values = rows[still], values[still]
        column[rows] = values

    def is_category(self, feature: int) -> bool:
        """Whether all values of a feature are texts; NaN (undefined) may be among them."""
        if feature not in self.structures:
            return False
        structures = self.structures[feature]
        is_number = ~is_there(structures) & ~np.isnan(self.value[feature])
        return not is_number.any() and all(
            isinstance(value, str) for value in structures if value is not None
        )

    def objects(self, feature: int) -> npt.NDArray[Any]:
        """One feature's values: floats, or objects if some are structures (None is missing)."""
        if feature not in self.structures:
            numbers: npt.NDArray[Any] = self.value[feature]
            return numbers
        structures = self.structures[feature]
        is_number = (self.event[feature] != MISSING) & ~is_there(structures)
        column = structures.copy()
        column[is_number] = self.value[feature][is_number]
        return column
