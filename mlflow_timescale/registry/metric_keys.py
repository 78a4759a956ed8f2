"""Keys of metrics: "<dataset_type>/<metric>", and the errors for names that match nothing."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from mlflow_timescale.common.errors import did_you_mean, first_of

DATASET_TYPES = ("train", "val", "test", "backtest", "live")
_SHOWN = 20


def metric_key(name: str, dataset_type: str | None) -> str:
    """The key under which MLflow stores a metric. Raises ValueError for an unknown data set type.

    >>> metric_key("ic", "test")
    'test/ic'
    """
    if dataset_type is not None and dataset_type not in DATASET_TYPES:
        near = get_close_matches(str(dataset_type), DATASET_TYPES, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"dataset_type {dataset_type!r}{hint} is not one of {DATASET_TYPES}")
    return f"{dataset_type}/{name}" if dataset_type else name


def flat(key: str) -> str:
    """The name under which `ModelWithMetrics` shows a key.

    >>> flat("test/ic"), flat("epoch/loss")
    ('ic_test', 'epoch/loss')
    """
    dataset_type, slash, name = key.partition("/")
    return f"{name}_{dataset_type}" if slash and dataset_type in DATASET_TYPES else key


def metric_value(name: str, value: Any) -> float:
    """The number of a metric; raises ValueError for anything else.

    >>> metric_value("ic", 1)
    1.0
    >>> metric_value("ic", "abc")
    Traceback (most recent call last):
    ValueError: metric 'ic' is 'abc', not a number
    """
    try:
        return float(value)
    except (TypeError, ValueError) as exc:
        raise ValueError(f"metric {name!r} is {value!r}, not a number") from exc


def unknown_metric(name: str, keys: Iterable[str]) -> ValueError | None:
    """The error for a metric that none of the logged keys is about; None where one is.

    Without any key there is nothing to compare the name with, and no error.
    """
    names = sorted({_metric(key) for key in keys})
    if not names or name in names:
        return None
    return ValueError(
        f"no version has ever logged metric {name!r}{did_you_mean(name, names)}; logged are: "
        f"{first_of(names, _SHOWN)}"
    )


def _metric(key: str) -> str:
    dataset_type, slash, name = key.partition("/")
    return name if slash and dataset_type in DATASET_TYPES else key
