"""Alignment of labelled values: pandas Series and frames are paired by label, not by position.

pandas is not imported here; a labelled object has `index` and `reindex`. Values without labels
(arrays, lists, series of other libraries) are paired by position.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

__all__ = ["align", "align_table", "require_same"]


def align(values: Any, to: Any, names: str) -> Any:
    """`values` in the order of the index of `to`; NaN for a label that `values` does not have.

    Without labels on both sides, `values` as they are. `names` is what an error calls the two.

    Raises ValueError if the labels differ and one side repeats one, or if none is on both sides.

    >>> align([1.0, 2.0], [3.0, 4.0], "returns and signals")
    [1.0, 2.0]
    """
    if not (_has_labels(values) and _has_labels(to)):
        return values
    return _reordered(values, values.index, to.index, "index", names)


def align_table(values: Any, to: Any, names: str) -> Any:
    """`values` in the order of the index and the columns of the frame `to`.

    A Series of `values` stands for all rows of `to`: its index is aligned with the columns.
    """
    if not (_has_labels(values) and hasattr(to, "columns")):
        return values
    if not hasattr(values, "columns"):
        return _reordered(values, values.index, to.columns, "index", names)
    rows = _reordered(values, values.index, to.index, "index", names)
    return _reordered(rows, values.columns, to.columns, "columns", names)


def require_same(**series: Any) -> None:
    """Raise ValueError unless labelled series, by name, have the same index.

    >>> require_same(ic=[0.1, 0.2], psi=[0.3, 0.4])
    """
    labelled = {name: values for name, values in series.items() if _has_labels(values)}
    for (name, values), (other, others) in pairwise(labelled.items()):
        if not values.index.equals(others.index):
            raise ValueError(
                f"{name} and {other} have different labels (index); they are combined by position: "
                f"reindex them to one list of sessions first"
            )


def _has_labels(values: Any) -> bool:
    return hasattr(values, "reindex") and hasattr(getattr(values, "index", None), "equals")


def _reordered(values: Any, labels: Any, order: Any, axis: str, names: str) -> Any:
    if labels.equals(order) or (_is_default(labels) and _is_default(order)):
        return values
    if not (labels.is_unique and order.is_unique):
        raise ValueError(
            f"{names} have different labels ({axis}), and some occur twice, so they cannot be "
            f"paired: drop the duplicates, or pass arrays to pair them by position"
        )
    if not order.isin(labels).any():
        raise ValueError(
            f"{names} have no label in common ({axis}: {_sample(labels)} against "
            f"{_sample(order)}); pass arrays to pair them by position"
        )
    return values.reindex(order) if axis == "index" else values.reindex(columns=order)


def _is_default(labels: Any) -> bool:
    """Whether labels count 0, 1, 2, ..., which stands for positions."""
    is_range = type(labels).__name__ == "RangeIndex"
    return is_range and (labels.start, labels.step) == (0, 1)


def _sample(labels: Any) -> str:
    return ", ".join(repr(label) for label in list(labels[:2])) or "none"
