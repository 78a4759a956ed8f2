"""Errors for names of models and strategy types that match nothing, with the names spelt alike."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from mlflow_timescale.common.errors import did_you_mean


def unknown_strategy(strategy_type: str | None, types: Iterable[str]) -> ValueError | None:
    """The error for a strategy type that looks like a misspelt one; None for any other."""
    types = sorted(types)
    if strategy_type is None or strategy_type in types:
        return None
    hint = did_you_mean(strategy_type, types)
    return ValueError(f"no version has strategy type {strategy_type!r}{hint}") if hint else None


def unknown_model(name: str, names: Iterable[str]) -> MlflowException:
    """The error for a model that does not exist, with the names that are spelt alike."""
    return MlflowException(
        f"the registry holds no model {name!r}{did_you_mean(name, sorted(names))}, and no history "
        f"of one",
        RESOURCE_DOES_NOT_EXIST,
    )
