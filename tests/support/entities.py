"""MLflow's entities as plain values, so that two stores' answers can be compared field by field."""

from __future__ import annotations

import math
from typing import Any

from mlflow.store.entities.paged_list import PagedList


def plain(value: Any, labels: dict[str, str]) -> Any:
    """An entity as nested tuples of all it has, run ids by name, what has no order sorted."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, str):
        for run_id, name in labels.items():
            value = value.replace(run_id, f"<{name}>")
        return value
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, PagedList):
        return ("page", [plain(item, labels) for item in value], value.token)
    if isinstance(value, (list, tuple)):
        return [plain(item, labels) for item in value]
    if isinstance(value, dict):
        return sorted((key, plain(item, labels)) for key, item in value.items())
    fields = {key: plain(item, labels) for key, item in vars(value).items()}
    # The tags of a run are a dictionary, those of a dataset's use a list.
    for unordered in (
        "_metric_objs",
        "_model_inputs",
        "_model_outputs",
        "_dataset_inputs",
        "_tags",
    ):
        if isinstance(fields.get(unordered), list):
            fields[unordered] = sorted(fields[unordered], key=repr)
    return type(value).__name__, sorted(fields.items())
