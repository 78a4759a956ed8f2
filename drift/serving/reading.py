"""Features of the feature store as cells of a request, with what the read depends on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

from mlflow_timescale.common.micros import MISSING
from mlflow_timescale.common.time import to_micros

from .cells import FeatureCells


def latest_cells(
    store: Any,
    entities: Sequence[str],
    features: Any,
    names: Sequence[str],
    as_of: datetime | None,
    options: Mapping[str, Any],
) -> tuple[FeatureCells, datetime]:
    """The features of some entities as known at a moment, and that moment.

    Parameters
    ----------
    store
        A FeatureStore.
    features, names
        As of `get_latest`, and the columns of the cells in their order.
    as_of
        Aware; None for now, by the database's clock.
    options
        Further arguments of `get_latest`.
    """
    by_entity = store.get_latest(list(entities), features, as_of=as_of, **options)
    shape = (len(entities), len(names))
    values, event = np.full(shape, np.nan), np.full(shape, MISSING, dtype=np.int64)
    versions, absent = np.zeros(shape, dtype=np.int32), np.ones(shape, dtype=bool)
    others: dict[tuple[int, int], str] = {}
    moment = as_of
    columns = {name: column for column, name in enumerate(names)}
    for row, entity in enumerate(entities):
        for name, known in by_entity[entity].items():
            column = columns[name]
            absent[row, column] = False
            versions[row, column] = known.feature_version
            event[row, column] = to_micros(known.event_time)
            moment = moment or known.as_of
            if isinstance(known.value, float):
                values[row, column] = known.value
            else:
                others[row, column] = json.dumps(known.value, ensure_ascii=False)
    cells = FeatureCells(tuple(names), values, absent, others, event, versions)
    return cells, moment or datetime.now(timezone.utc)


def described(options: Mapping[str, Any]) -> dict[str, str]:
    """The arguments of a read, as texts that are stored with the features.

    >>> described({"max_age": "5d", "calendar": None})
    {'max_age': '5d'}
    """
    return {name: str(value) for name, value in options.items() if value is not None}
