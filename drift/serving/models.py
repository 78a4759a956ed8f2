"""The model that serves: one version, loaded with the SHA-256 of every file verified."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mlflow_timescale.common.errors import InvalidInput
from mlflow_timescale.common.frames import pandas_matrix
from mlflow_timescale.db import Database, Error, load, rows

from .cells import FeatureCells

_queries = load("serving")
# Types of MLflow's signatures that float64 is no instance of, and what they are in a frame.
_DTYPES = {"float": np.float32, "integer": np.int32, "long": np.int64, "boolean": np.bool_}


class ModelUnavailable(Error):
    """The model of a `Serving` cannot be loaded, or has no features."""


@dataclass(frozen=True)
class LoadedModel:
    """A version of a registered model, in memory.

    Attributes
    ----------
    model
        The pyfunc model.
    name, version
        The registered model and the number of the version.
    uri
        As the caller named it, such as models:/momentum@champion.
    checksum
        SHA-256 of its files, as in mlops.version_checksums; None where the ledger has none.
    """

    model: Any
    name: str
    version: str
    uri: str
    checksum: str | None
    _signature: Any = field(default=None, repr=False)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """The columns of the model's signature; none if it has none."""
        schema = self._signature and self._signature.inputs
        return (
            tuple(schema.input_names()) if schema is not None and schema.has_input_names() else ()
        )

    @cached_property
    def dtypes(self) -> Mapping[str, Any]:
        """The columns that the signature wants as another type than float64."""
        if not self.features:
            return {}
        named = zip(self.features, self._signature.inputs.input_types(), strict=True)
        types = {name: getattr(kind, "name", "") for name, kind in named}
        return {name: _DTYPES[kind] for name, kind in types.items() if kind in _DTYPES}


def load_verified(database: Database, reference: str) -> LoadedModel:
    """Load the version that a reference names at this moment.

    Parameters
    ----------
    reference
        "models:/NAME@alias", "models:/NAME/3" or "models:/NAME/latest", with or without "models:/".

    Raises
    ------
    ModelUnavailable
        There is no such version.
    MlflowException
        A file differs from the ledger, or the version has no pyfunc model.
    """
    from mlflow_timescale.registry.history import active_workspace
    from mlflow_timescale.registry.model_registry import ModelRegistry

    registry = ModelRegistry(database.uri)
    info = registry.get_model(reference)
    if info is None:
        raise ModelUnavailable(
            f"there is no model version {reference!r}: register it, or set the alias"
        )
    # By its number: the alias may move while the files are read.
    model = registry.load_model(f"models:/{info.name}/{info.version}")
    row = {"workspace": active_workspace(), "name": info.name, "version": info.version}
    with database.connection() as conn:
        checksum = rows.scalar(conn, _queries.version_checksum, row)
    signature = model.metadata.signature
    return LoadedModel(model, info.name, str(info.version), reference, checksum, signature)


def model_input(model: LoadedModel, cells: FeatureCells, entities: Sequence[str]) -> Any:
    """The cells as a pandas frame that the model takes, indexed by entity.

    A cell without a value is NaN. Raises InvalidInput where a column of whole numbers has one.
    """
    frame = pandas_matrix(cells.values, cells.names, entities)
    for name, column in _object_columns(cells).items():
        frame[name] = column
    for name, dtype in model.dtypes.items():
        if name not in frame:
            continue
        try:
            frame[name] = frame[name].astype(dtype)
        except (TypeError, ValueError) as exc:
            raise InvalidInput(
                f"the model's signature has {name!r} as {np.dtype(dtype)}, which cannot hold a "
                f"missing value ({exc}): log the model with a signature of doubles"
            ) from exc
    return frame


def _object_columns(cells: FeatureCells) -> dict[str, Any]:
    """The columns with texts or structures: those, floats, and None where there is no value."""
    columns: dict[str, Any] = {}
    for (row, j), text in cells.others.items():
        name = cells.names[j]
        if name not in columns:
            columns[name] = cells.values[:, j].astype(object)
            columns[name][cells.absent[:, j]] = None
        columns[name][row] = json.loads(text)
    return columns


def picked(output: Any, column: str | None) -> Any:
    """The column of a model's output that is the prediction.

    Raises InvalidInput where the output has several columns, and none is named.
    """
    if column is None:
        return output
    picker: Callable[[str], Any] | None = getattr(output, "__getitem__", None)
    try:
        return output[column] if picker else output
    except (KeyError, IndexError, TypeError, ValueError) as exc:
        raise InvalidInput(f"the model's output has no column {column!r}: {exc!r}") from exc
