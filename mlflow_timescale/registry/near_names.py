"""Errors for names of models and strategy types that match nothing, with the names spelt alike."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST


def unknown_strategy(strategy_type: str | None, types: Iterable[str]) -> ValueError | None:
    """The error for a strategy type that looks like a misspelt one; None for any other."""
    types = sorted(types)
    if strategy_type is None or strategy_type in types:
        return None
    near = get_close_matches(strategy_type, types, n=3)
    if not near:
        return None
    return ValueError(
        f"no version has strategy type {strategy_type!r} (did you mean {', '.join(near)}?)"
    )


def unknown_model(name: str, names: Iterable[str]) -> MlflowException:
    """The error for a model that does not exist, with the names that are spelt alike."""
    near = get_close_matches(name, sorted(names), n=3)
    hint = f" (did you mean {', '.join(near)}?)" if near else ""
    return MlflowException(
        f"the registry holds no model {name!r}{hint}, and no history of one",
        RESOURCE_DOES_NOT_EXIST,
    )
