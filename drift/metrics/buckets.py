"""Buckets of a reference window, and counting values into them.

Interior cut points are the unique deciles of the finite reference, ends open, intervals (lo, hi].
At most `bins` distinct values: one bucket per value and one for any other. Values that differ by
rounding only share a bucket. A value with a share above 1/bins has a separate bucket. Non-finite
values have a bucket too: going missing is a drift.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import Counts, Floats
from .categories import labels_of
from .clock import Clock
from .feed_quality import Habits
from .ranks import cross_sectional
from .spread import ROUNDING, is_constant

_TUPLES = ("edges", "values", "counts", "names")


@dataclass(frozen=True)
class Variation:
    """PSI of a window's own days against its other days.

    Attributes
    ----------
    quantile_99
        Its 99% point.
    extra_mean, extra_variance
        By how much its mean and variance exceed those of chance, at least 0.
    effective_days
        How many independent days those were estimated from, autocorrelation counted.
    rise
        The largest rise of the square root of PSI from one day to the next; 0 if not known.
    """

    quantile_99: float
    extra_mean: float = 0.0
    extra_variance: float = 0.0
    effective_days: float = 1.0
    rise: float = 0.0


@dataclass(frozen=True)
class Reference:
    """Buckets of an accepted window and how many of its values fell in each.

    Attributes
    ----------
    kind
        "quantiles", "values" or "categories".
    edges
        Interior cut points, increasing; empty for "values" and "categories".
    values
        Values that are a bucket of their own, increasing.
    counts
        The window's values per bucket, in the order of `labels`; the last is the non-finite one.
    daily, pooled
        How much the window's own days, and runs of five of them, differ from its other days; None
        where the window came without days.
    habits
        How many of a day's names had no value, the same value, or that of the day before.
    clock
        The usual hour of the events; None where it was not recorded.
    names
        The texts of `values` where these are codes of categories.
    ranked
        Whether values are ranked across the names of a session before they are counted.
    """

    kind: str
    edges: tuple[float, ...]
    values: tuple[float, ...]
    counts: tuple[int, ...]
    daily: Variation | None = None
    pooled: Variation | None = None
    habits: Habits | None = None
    clock: Clock | None = None
    names: tuple[str, ...] = ()
    ranked: bool = False

    @classmethod
    def fit_categories(cls, codes: ArrayLike, names: Mapping[float, str]) -> Reference:
        """A bucket for each category of a window, one for any other, one for missing ones.

        Parameters
        ----------
        codes, names
            As `category_codes` returns them.

        >>> from drift.metrics.categories import category_codes
        >>> codes, names = category_codes(["FIN", "TECH", "TECH", None])
        >>> reference = Reference.fit_categories(codes, names)
        >>> dict(zip(reference.labels, reference.counts)) == {
        ...     "FIN": 1, "TECH": 2, "other": 0, "missing": 1}
        True
        """
        data = np.asarray(codes, dtype=np.float64).ravel()
        values = tuple(np.unique(data[np.isfinite(data)]).tolist())
        empty = cls("categories", (), values, (), names=labels_of(names, values))
        return replace(empty, counts=tuple(count(empty, data).tolist()))

    @classmethod
    def fit(cls, values: ArrayLike, bins: int = 10) -> Reference:
        """Buckets of a window, shape (m,); `psi.fit` also takes the window's days.

        Raises ValueError if `bins` is below 2.

        >>> Reference.fit([0.0, 1.0, 1.0, np.nan]).counts  # 0, 1, other, non-finite
        (1, 2, 0, 1)
        """
        if bins < 2:
            raise ValueError(f"bins must be 2 or more, got {bins}")
        data = np.asarray(values, dtype=np.float64).ravel()
        distinct, repeats = np.unique(data[np.isfinite(data)], return_counts=True)
        empty = cls._layout(distinct, repeats, bins)
        counts = count(empty, data)
        return cls(empty.kind, empty.edges, empty.values, tuple(counts.tolist()))

    @classmethod
    def _layout(cls, distinct: Floats, repeats: Counts, bins: int) -> Reference:
        if len(distinct) > 1 and is_constant(distinct):  # one value, computed in several ways
            reach = ROUNDING * float(np.abs(distinct).max())
            edges = (float(distinct[0]) - reach, float(distinct[-1]) + reach)
            return cls("quantiles", edges, (), ())
        if len(distinct) <= bins:
            return cls("values", (), tuple(distinct.tolist()), ())
        cut_shares = np.arange(1, bins) / bins
        cuts = np.unique(np.quantile(np.repeat(distinct, repeats), cut_shares))
        heavy = distinct[repeats > repeats.sum() / bins]
        return cls("quantiles", tuple(cuts.tolist()), tuple(heavy.tolist()), ())

    @property
    def n(self) -> int:
        """Values in the window."""
        return sum(self.counts)

    @cached_property
    def cuts(self) -> Floats:
        """Cut points of right-closed intervals; a value with a separate bucket has two."""
        separate = np.array(self.values, dtype=np.float64)
        below = np.nextafter(separate, -np.inf)
        return np.unique(np.concatenate([np.array(self.edges, dtype=np.float64), below, separate]))

    @cached_property
    def bucket_of(self) -> NDArray[np.intp]:
        """Bucket number of each interval between `cuts`, shape (len(cuts) + 1,)."""
        intervals = np.arange(len(self.cuts) + 1)
        if self.kind == "quantiles":
            return intervals
        other = len(self.values)
        separate = {float(value): i for i, value in enumerate(self.values)}
        return np.array(
            [separate.get(float(hi), other) for hi in self.cuts] + [other], dtype=np.intp
        )

    @cached_property
    def cut_list(self) -> list[float]:
        """`cuts` as plain floats: numpy compares arrays faster with these than with its scalars."""
        return [float(cut) for cut in self.cuts]

    @cached_property
    def buckets(self) -> int:
        """How many buckets, the non-finite one included."""
        return int(self.bucket_of.max()) + 2

    @property
    def width_bucket(self) -> Floats:
        """Thresholds for PostgreSQL's `width_bucket(value, thresholds)`, which is left-closed.

        Each is the next double above a cut, so [lo, hi) there holds what (lo, hi] holds here; give
        the numbers it returns, counted, to `fold`.
        """
        return np.nextafter(self.cuts, np.inf)

    def fold(self, interval_counts: ArrayLike, nonfinite: int) -> Counts:
        """Bucket counts from counts per interval, shape (len(cuts) + 1,), and non-finite ones."""
        if self.kind == "quantiles":
            return np.array([*np.asarray(interval_counts), nonfinite], dtype=np.int64)
        counts = np.bincount(self.bucket_of, np.asarray(interval_counts), self.buckets)
        counts[-1] = nonfinite
        return counts.astype(np.int64)

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each bucket.

        >>> Reference.fit([1.0, 2.0]).labels
        ('1', '2', 'other', 'missing')
        """
        if self.kind == "categories":
            return (*self.names, "other", "missing")
        if self.kind == "values":
            return (*(f"{value:.4g}" for value in self.values), "other", "missing")
        ends = [-np.inf, *self.cuts.tolist(), np.inf]
        return (*(self._label(low, high) for low, high in pairwise(ends)), "missing")

    def _label(self, low: float, high: float) -> str:
        return f"{high:.4g}" if high in self.values else f"({low:.4g}, {high:.4g}]"

    def to_json(self) -> str:
        """Text that `from_json` turns into an equal reference, every double exact."""
        fields = asdict(self)
        if not self.names:  # clients from before there were categories do not know the field
            del fields["names"]
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> Reference:
        """The reference that `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        fields |= {key: tuple(fields.get(key, ())) for key in _TUPLES}
        for key, kind in (
            ("daily", Variation),
            ("pooled", Variation),
            ("habits", Habits),
            ("clock", Clock),
        ):
            fields[key] = kind(**fields[key]) if fields.get(key) else None
        return cls(**fields)


def count(reference: Reference, values: ArrayLike) -> Counts:
    """Values per bucket, shape (buckets,).

    >>> count(Reference.fit([1.0, 2.0]), [2.0, 2.0, 7.0, np.inf])
    array([0, 2, 1, 1])
    """
    row = np.ascontiguousarray(values, dtype=np.float64).ravel()
    if reference.ranked:
        row = cross_sectional(row)
    return _count_row(reference, row, np.empty(len(row), dtype=bool))


def count_batch(references: Sequence[Reference], matrix: ArrayLike) -> Counts:
    """Values per bucket of many features, shape (features, most buckets), zeros on the right.

    `matrix` has shape (features, names). Raises ValueError if it and `references` differ in length.
    """
    rows = np.ascontiguousarray(matrix, dtype=np.float64)
    if rows.ndim != 2 or len(rows) != len(references):
        raise ValueError(f"{len(references)} references need as many rows, got shape {rows.shape}")
    table = np.zeros((len(rows), max((r.buckets for r in references), default=0)), dtype=np.int64)
    scratch = np.empty(rows.shape[1], dtype=bool)
    for reference, values, counts in zip(references, rows, table, strict=True):
        row = cross_sectional(values) if reference.ranked else values
        counts[: reference.buckets] = _count_row(reference, row, scratch)
    return table


def _count_row(reference: Reference, row: Floats, scratch: NDArray[np.bool_]) -> Counts:
    # A dozen comparisons of the whole row are several times faster than a search per value.
    nonfinite = len(row) - int(np.count_nonzero(np.isfinite(row, out=scratch)))
    below = int(np.count_nonzero(np.equal(row, -np.inf, out=scratch))) if nonfinite else 0
    at_most = [
        int(np.count_nonzero(np.less_equal(row, cut, out=scratch))) - below
        for cut in reference.cut_list
    ]
    ends = [0, *at_most, len(row) - nonfinite]
    return reference.fold([high - low for low, high in pairwise(ends)], nonfinite)
