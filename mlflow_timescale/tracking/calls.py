"""What every public call of the stores has in common: conflicts are retried, bad text is named."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar

import psycopg
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm.exc import StaleDataError

from mlflow_timescale.common.text import refusals

Store = TypeVar("Store")
_ATTEMPTS = 10
# MLflow answers with another code where a conflict is the caller's (RESOURCE_ALREADY_EXISTS).
_UNEXPECTED = {"BAD_REQUEST", "INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"}
_CONFLICTS = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.ForeignKeyViolation,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    StaleDataError,
)
# Of Python (UnicodeEncodeError, "embedded null byte") and of the driver or the server.
_REFUSED_TEXT = (ValueError, psycopg.DataError)


def guarded(store: type[Store]) -> type[Store]:
    """Guard the public methods of a store class, those that it inherits from MLflow included.

    A class decorator, so that a call that MLflow adds in its next release is guarded too.
    """
    for name in dir(store):
        method = inspect.getattr_static(store, name)
        if not name.startswith("_") and inspect.isfunction(method):
            setattr(store, name, _guarded(method))
    return store


class _Thread(threading.local):
    guarded = False  # whether a guarded call runs in this thread


_thread = _Thread()


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if _thread.guarded:
            return method(*arguments, **keywords)
        _thread.guarded = True
        try:
            return _retried(method, arguments, keywords)
        except Exception as exc:
            if _has_cause(exc, _REFUSED_TEXT):
                _name_refused_text(exc, method, arguments, keywords)
            raise
        finally:
            _thread.guarded = False

    return call


def _retried(method: Callable[..., Any], arguments: Any, keywords: Any) -> Any:
    """Call again where another transaction came first: MLflow reads, then inserts or updates.

    The next attempt reads what the other one wrote: the last writer wins, as in a call that
    starts later.
    """
    for _attempt in range(_ATTEMPTS - 1):
        try:
            return method(*arguments, **keywords)
        except Exception as exc:
            if not _is_conflict(exc):
                raise
    return method(*arguments, **keywords)


def _is_conflict(exc: Exception) -> bool:
    expected = isinstance(exc, MlflowException) and exc.error_code not in _UNEXPECTED
    return not expected and _has_cause(exc, _CONFLICTS)


def _has_cause(exc: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    return any(isinstance(cause, kinds) for cause in _causes(exc))


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        if isinstance(exc, DBAPIError) and exc.orig is not None:
            yield exc.orig
        exc = exc.__cause__ or exc.__context__


def _name_refused_text(
    exc: Exception, method: Callable[..., Any], arguments: Any, keywords: Any
) -> None:
    """Raise INVALID_PARAMETER_VALUE for the first argument with text that cannot be stored."""
    given = inspect.signature(method).bind(*arguments, **keywords).arguments
    for name, value in list(given.items())[1:]:
        for field, reason in refusals(value, name):
            raise MlflowException(
                f"{field} {reason}. PostgreSQL stores no NUL, UTF-8 no lone surrogate: remove it",
                INVALID_PARAMETER_VALUE,
            ) from exc
