"""Translation of driver errors into MlflowException, with the codes of MLflow's own store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    BAD_REQUEST,
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    INVALID_STATE,
    PERMISSION_DENIED,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)
from sqlalchemy.exc import SQLAlchemyError

from mlflow_timescale.db.rights import lacking

# What the functions in sql/tracking/functions raise, as MLflow's codes.
_OURS = {"ML400": INVALID_PARAMETER_VALUE, "ML404": RESOURCE_DOES_NOT_EXIST}

_RELEASED = (
    "this database was released to plain MLflow: use its postgresql:// URI, or run "
    "`mlflow-timescale adopt` to take it over again"
)


class ParamsChanged(Exception):
    """Params exist with other values: (key, old value, new value) of each."""

    def __init__(self, changed: list[tuple[str, str, str]]) -> None:
        self.changed = changed


@contextmanager
def translated() -> Iterator[None]:
    """Raise driver errors as MlflowException, as MLflow's ManagedSessionMaker does."""
    try:
        yield
    except (MlflowException, ParamsChanged):
        raise
    except psycopg.errors.CharacterNotInRepertoire as exc:
        # psycopg2 raises ValueError for it, which MLflow gives this code.
        raise MlflowException(f"text must not hold NUL (0x00): {exc}", INTERNAL_ERROR) from exc
    except psycopg.errors.InsufficientPrivilege as exc:
        raise MlflowException(lacking(exc), PERMISSION_DENIED) from exc
    except psycopg.OperationalError as exc:
        raise MlflowException(_message(exc), TEMPORARILY_UNAVAILABLE) from exc
    except (psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedTable) as exc:
        # A client that was started before `release` finds none of our functions.
        if "mlops." in (exc.diag.message_primary or ""):
            raise MlflowException(_RELEASED, INVALID_STATE) from exc
        raise MlflowException(_message(exc), BAD_REQUEST) from exc
    except psycopg.Error as exc:
        if exc.sqlstate == "ML409":
            raise ParamsChanged(json.loads(exc.diag.message_detail or "[]")) from exc
        if exc.sqlstate in _OURS:
            raise MlflowException(exc.diag.message_primary, _OURS[exc.sqlstate]) from exc
        raise MlflowException(_message(exc), BAD_REQUEST) from exc
    except SQLAlchemyError as exc:
        raise MlflowException(str(exc), BAD_REQUEST) from exc
    except Exception as exc:
        raise MlflowException(str(exc), INTERNAL_ERROR) from exc


def _message(exc: psycopg.Error) -> str:
    return f"({type(exc).__name__}) {exc}"
