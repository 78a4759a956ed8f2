"""The errors for calls that cannot wait in a spool."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from mlflow_timescale.spool import Away


def unavailable(text: str) -> MlflowException:
    """The error with MLflow's code for a database that is away."""
    return MlflowException(text, TEMPORARILY_UNAVAILABLE)


@contextmanager
def named(what: str) -> Iterator[None]:
    """Turn an outage into a one-line error that ends with `what`, the impossible operation."""
    try:
        yield
    except Away as exc:
        raise unavailable(f"{exc}, and {what}") from exc
