"""Points as bytes: those of one call in a spool, and those of many calls for one COPY."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlflow_timescale.db import binary_copy
from mlflow_timescale.tracking.points import Point

Series = tuple[str, str]  # run id, key
Array = npt.NDArray[Any]


class Packed(NamedTuple):
    """The points of one call: their keys, and columns one after the other.

    The columns are steps and timestamps (64-bit integers), values (64-bit floats) and flags for
    NaN (a byte each), little-endian.

    Examples
    --------
    >>> Packed.of([("loss", 1, 1000, 0.5, False)]).points()
    [('loss', 1, 1000, 0.5, False)]
    """

    keys: list[str]
    columns: bytes

    @classmethod
    def of(cls, points: Sequence[Point]) -> Packed:
        """Encode points as bytes."""
        if not points:
            return NO_POINTS
        keys, *columns = zip(*points, strict=True)
        flat = [value for column in columns for value in column]
        return cls(list(keys), struct.pack(_layout(len(keys)), *flat))

    def points(self) -> list[Point]:
        """Decode the points."""
        size = len(self.keys)
        flat = struct.unpack(_layout(size), self.columns)
        columns = (flat[number * size : (number + 1) * size] for number in range(4))
        return list(zip(self.keys, *columns, strict=True))


NO_POINTS = Packed([], b"")


def _layout(size: int) -> str:
    return f"<{size}q{size}q{size}d{size}?"


class Gathered:
    """The points of many calls, of any number of runs, as columns.

    Examples
    --------
    >>> gathered = Gathered()
    >>> for step in (2, 1, 2):
    ...     gathered.add("4f", Packed.of([("loss", step, 1000, 0.5, False)]))
    >>> gathered.unique().steps.tolist(), gathered.unique().newest().steps.tolist()
    ([1, 2], [2])
    """

    def __init__(self) -> None:
        self._numbers = _Numbers()
        self._series: list[int] = []
        self._columns = [bytearray() for _ in range(4)]

    def add(self, run_id: str, packed: Packed) -> None:
        """Add the points of a call."""
        size, data = len(packed.keys), packed.columns
        numbers = self._numbers
        self._series += [numbers[run_id, key] for key in packed.keys]
        steps, times, values, nans = self._columns
        steps += data[: 8 * size]
        times += data[8 * size : 16 * size]
        values += data[16 * size : 24 * size]
        nans += data[24 * size :]

    def __bool__(self) -> bool:
        return bool(self._series)

    def unique(self) -> Points:
        """The distinct points, in the order of the index."""
        names, series = self._ordered()
        steps, times, values, nans = (
            np.frombuffer(bytes(column), kind)
            for column, kind in zip(self._columns, ("<i8", "<i8", "<f8", "?"), strict=True)
        )
        order = np.lexsort((nans, values, times, steps, series))
        points = Points(
            names, series[order], steps[order], times[order], values[order], nans[order], order
        )
        return points.at(~points.repeats_previous("series", "steps", "times", "values", "nans"))

    def _ordered(self) -> tuple[list[Series], Array]:
        """The series by lengths of names, then by name; the number of each point's series."""
        names = sorted(self._numbers, key=lambda name: (*_lengths(name), name))
        place = np.empty(len(names), np.intp)
        place[[self._numbers[name] for name in names]] = np.arange(len(names))
        return names, place[self._series]


class Points(NamedTuple):
    """Points as columns: `names[series]` are their runs and keys, `order` is the order of calls."""

    names: list[Series]
    series: Array
    steps: Array
    times: Array
    values: Array
    nans: Array
    order: Array

    def at(self, chosen: Array) -> Points:
        """The points that a mask or an array of positions selects."""
        return Points(self.names, *(column[chosen] for column in self[1:]))

    def repeats_previous(self, *columns: str) -> Array:
        """Whether each point equals the previous one in these columns."""
        equal = np.zeros(len(self.series), bool)
        if len(equal):
            pairs = ((c[1:], c[:-1]) for c in (getattr(self, name) for name in columns))
            equal[1:] = np.logical_and.reduce([after == before for after, before in pairs])
        return equal

    def newest(self) -> Points:
        """The latest point of each series by MLflow's rule; the points must be sorted.

        NaN is stored as 0, so that NaN and 0 of one step and time tie: the first call wins.
        """
        last = np.flatnonzero(np.append(self.series[1:] != self.series[:-1], True))
        ties = self.repeats_previous("series", "steps", "times", "values")[last]
        is_later = self.order[last] > self.order[last - 1]
        return self.at(last - (ties & is_later))

    def rows(self) -> Iterator[bytes]:
        """The points as blocks of a binary COPY: run, key, value, time, step, NaN."""
        lengths = np.array([_lengths(name) for name in self.names])[self.series]
        runs, keys = (np.array([name[part].encode() for name in self.names]) for part in (0, 1))
        starts = np.flatnonzero(np.append(True, (lengths[1:] != lengths[:-1]).any(axis=1)))
        for places in np.split(np.arange(len(lengths)), starts[1:]):
            run_length, key_length = lengths[places[0]]
            part = self.at(places)
            fields = [
                runs.astype(f"S{run_length}")[part.series],
                keys.astype(f"S{key_length}")[part.series],
                part.values,
                part.times,
                part.steps,
                part.nans,
            ]
            yield binary_copy.records(fields).tobytes()

    def lists(self) -> dict[str, list[Any]]:
        """The points as the arguments of statements."""
        names = [self.names[number] for number in self.series.tolist()]
        return {
            "runs": [run_id for run_id, _ in names],
            "keys": [key for _, key in names],
            "values": self.values.tolist(),
            "timestamps": self.times.tolist(),
            "steps": self.steps.tolist(),
            "nans": self.nans.tolist(),
        }


class _Numbers(dict[Series, int]):
    """A number for each series, assigned when the series is first looked up."""

    def __missing__(self, series: Series) -> int:
        self[series] = number = len(self)
        return number


def _lengths(name: Series) -> tuple[int, int]:
    """The lengths of a run id and a key, in bytes."""
    return len(name[0].encode()), len(name[1].encode())
