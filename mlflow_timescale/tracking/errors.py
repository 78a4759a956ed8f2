"""The one place where a driver's error becomes MLflow's, with the code MLflow's store gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR, TEMPORARILY_UNAVAILABLE


@contextmanager
def translated() -> Iterator[None]:
    """Raise MlflowException for what the database refuses: see MLflow's ManagedSessionMaker."""
    try:
        yield
    except psycopg.errors.CharacterNotInRepertoire as exc:
        # psycopg2 raises ValueError for it, which MLflow gives this code.
        raise MlflowException(f"text must not hold NUL (0x00): {exc}", INTERNAL_ERROR) from exc
    except psycopg.OperationalError as exc:
        raise MlflowException(_message(exc), TEMPORARILY_UNAVAILABLE) from exc
    except psycopg.Error as exc:
        raise MlflowException(_message(exc), BAD_REQUEST) from exc


def _message(exc: psycopg.Error) -> str:
    return f"({type(exc).__name__}) {exc}"
