"""Metrics on their way into the database: checked, made unique, turned into columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INVALID_PARAMETER_VALUE
from mlflow.utils.validation import _validate_metric

_BIGINT = 2**63
_LARGEST = 1.7976931348623157e308  # what MLflow stores for infinity

_COLUMNS = ("keys", "values", "timestamps", "steps", "nans", "newest")
_MODEL_COLUMNS = ("model_ids", "dataset_names", "dataset_digests", *_COLUMNS[:5])
Point = tuple[str, float, int, int, bool]


@dataclass(frozen=True)
class Points:
    """The points of one call, in the order of their keys; is each the newest of its series?"""

    every: list[Point]
    newest: list[bool]


def points(metrics: Sequence[Metric], *, of_batch: bool = False) -> Points:
    """Check metrics as MLflow does, and drop repetitions.

    Raises MlflowException INVALID_PARAMETER_VALUE for what MLflow refuses, and for a timestamp
    that no bigint holds.
    """
    numbered = of_batch or len(metrics) != 1
    unique: dict[Point, None] = {}
    checked: set[str] = set()
    for index, metric in enumerate(metrics):
        # MLflow's check costs more than the rest together: once a key, unless a value is unusual.
        if not (_usual(metric) and metric.key in checked):
            path = f"metrics[{index}]" if numbered else ""
            _validate_metric(metric.key, metric.value, metric.timestamp, metric.step, path=path)
            checked.add(metric.key)
        unique[point(metric)] = None
    # One order for all writers: two that insert the same points cannot wait for each other.
    every = sorted(unique)
    return Points(every, _newest(every))


def _usual(metric: Metric) -> bool:
    timestamp = metric.timestamp
    return (
        type(metric.key) is str
        and type(metric.value) in (float, int)
        and type(timestamp) is int
        and timestamp >= 0
        and type(metric.step) is int
    )


def point(metric: Metric) -> Point:
    """A metric as MLflow stores it: NaN is a flag beside 0, infinity the largest float."""
    value = float(metric.value)
    if math.isnan(value):
        return (metric.key, 0.0, *_position(metric), True)
    if math.isinf(value):
        return (metric.key, math.copysign(_LARGEST, value), *_position(metric), False)
    return (metric.key, value, *_position(metric), False)


def columns(batch: Points) -> dict[str, list[Any]]:
    """One array for each column, as the statements take them."""
    if not batch.every:
        return {name: [] for name in _COLUMNS}
    arrays = [*map(list, zip(*batch.every, strict=True)), batch.newest]
    return dict(zip(_COLUMNS, arrays, strict=True))


def model_columns(metrics: Sequence[Metric]) -> dict[str, list[Any]]:
    """The same for those metrics that belong to logged models."""
    unique = {
        (metric.model_id, metric.dataset_name, metric.dataset_digest, *point(metric)): None
        for metric in metrics
        if metric.model_id is not None
    }
    rows = sorted(unique, key=str)
    return dict(zip(_MODEL_COLUMNS, map(list, zip(*rows, strict=True)), strict=True))


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
    """Half away from zero, as PostgreSQL rounds a numeric."""
    return int(math.copysign(math.floor(abs(number) + 0.5), number)) if _finite(number) else _BIGINT


def _finite(number: Any) -> bool:
    return math.isfinite(float(number))


def _newest(every: list[Point]) -> list[bool]:
    latest: dict[str, tuple[tuple[int, int, float], int]] = {}
    for index, (key, value, timestamp, step, _) in enumerate(every):
        order = (step, timestamp, value)
        if key not in latest or order > latest[key][0]:
            latest[key] = (order, index)
    newest = [False] * len(every)
    for _, index in latest.values():
        newest[index] = True
    return newest
