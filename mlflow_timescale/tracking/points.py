"""Metrics before they are inserted: checked, made unique, turned into columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from operator import ne
from typing import Any

from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INVALID_PARAMETER_VALUE
from mlflow.utils.validation import _validate_metric
from psycopg.types.numeric import Int8

_BIGINT = 2**63
_LARGEST = 1.7976931348623157e308  # what MLflow stores for infinity

_COLUMNS = ("keys", "steps", "timestamps", "values", "nans", "newest")
_MODEL_COLUMNS = ("model_ids", "dataset_names", "dataset_digests", *_COLUMNS[:5])
Point = tuple[str, int, int, float, bool]


@dataclass(frozen=True)
class MetricPoints:
    """The points of one call, in index order: key, step, time, value.

    `newest` is True for the last point of each series.
    """

    every: list[Point]
    newest: list[bool]


def points(metrics: Sequence[Metric], *, of_batch: bool = False) -> MetricPoints:
    """Check metrics as MLflow does, and drop duplicates.

    Raises MlflowException INVALID_PARAMETER_VALUE for metrics that MLflow refuses, and for
    timestamps outside of a bigint.
    """
    numbered = of_batch or len(metrics) != 1
    unique: dict[Point, None] = {}
    checked: set[str] = set()
    for index, metric in enumerate(metrics):
        key, value, timestamp, step = metric.key, metric.value, metric.timestamp, metric.step
        # MLflow's check takes more time than the rest of this loop, so it runs once for each key,
        # and again for values that are not plain finite numbers.
        if (
            type(key) is str
            and key in checked
            and type(value) is float
            and isfinite(value)
            and type(timestamp) is int
            and 0 <= timestamp < _BIGINT
            and type(step) is int
            and -_BIGINT <= step < _BIGINT
        ):
            unique[key, step, timestamp, value, False] = None
            continue
        path = f"metrics[{index}]" if numbered else ""
        _validate_metric(key, value, timestamp, step, path=path)
        checked.add(key)
        unique[point(metric)] = None
    return batch(unique)


def batch(unique: Mapping[Point, None]) -> MetricPoints:
    """Points as one batch; they are in the order of their calls."""
    # Sorted, so that all writers lock index entries in one order and cannot deadlock.
    every = sorted(unique)
    return MetricPoints(every, _newest(every, unique))


def point(metric: Metric) -> Point:
    """A metric as MLflow stores it: NaN as 0 with a flag, infinity as the largest float."""
    value = float(metric.value)
    timestamp, step = _position(metric)
    if math.isnan(value):
        return metric.key, step, timestamp, 0.0, True
    if math.isinf(value):
        value = math.copysign(_LARGEST, value)
    return metric.key, step, timestamp, value, False


def columns(batch: MetricPoints) -> dict[str, list[Any]]:
    """One array for each column: the arguments of the statements."""
    arrays = map(list, zip(*batch.every, strict=True)) if batch.every else ([] for _ in range(5))
    return dict(zip(_COLUMNS, [*arrays, batch.newest], strict=True))


def fields(of: Point) -> dict[str, Any]:
    """The arguments of the statement for one point, as the types of its columns."""
    key, step, timestamp, value, is_nan = of
    return {
        "key": key,
        "step": Int8(step),
        "timestamp": Int8(timestamp),
        "value": value,
        "is_nan": is_nan,
    }


def model_columns(metrics: Sequence[Metric]) -> dict[str, list[Any]]:
    """One array for each column, of the metrics that belong to logged models."""
    unique = {
        (metric.model_id, metric.dataset_name, metric.dataset_digest, *point(metric)): None
        for metric in metrics
        if metric.model_id is not None
    }
    rows = sorted(unique, key=str)
    return dict(zip(_MODEL_COLUMNS, map(list, zip(*rows, strict=True)), strict=True))


def _newest(every: list[Point], in_call_order: Iterable[Point]) -> list[bool]:
    keys = [point[0] for point in every]
    newest = list(map(ne, keys, [*keys[1:], None]))
    for index, (zero, nan) in enumerate(pairwise(every)):
        # NaN and 0 at the same step and time tie (NaN is stored as 0): in MLflow the one that
        # came first in the call is the latest.
        if nan[4] and newest[index + 1] and zero[:4] == nan[:4]:
            newest[index] = zero == next(first for first in in_call_order if first[:4] == zero[:4])
            newest[index + 1] = not newest[index]
    return newest


def _position(metric: Metric) -> tuple[int, int]:
    timestamp, step = metric.timestamp, metric.step
    if type(timestamp) is not int:
        timestamp = _whole(timestamp)
    if type(step) is not int:
        step = _whole(step)
    if timestamp >= _BIGINT:
        raise MlflowException(
            f"metric '{metric.key}' has the timestamp {metric.timestamp}: milliseconds since 1970 "
            f"must be less than 2**63",
            INVALID_PARAMETER_VALUE,
        )
    if not -_BIGINT <= step < _BIGINT:
        raise MlflowException(
            f"metric '{metric.key}' has the step {metric.step}: it must fit into 64 bits",
            BAD_REQUEST,
        )
    return timestamp, step


def _whole(number: Any) -> int:
    """Rounded half away from zero, as PostgreSQL rounds numeric to bigint."""
    return int(math.copysign(math.floor(abs(number) + 0.5), number)) if _finite(number) else _BIGINT


def _finite(number: Any) -> bool:
    return math.isfinite(float(number))
