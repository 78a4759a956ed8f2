"""What every public call of the stores has in common: conflicts are retried, bad text is named."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar

import psycopg
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, TEMPORARILY_UNAVAILABLE
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm.exc import StaleDataError

from mlflow_timescale.common.text import SURROGATES
from mlflow_timescale.db.rights import lacking, refusal_in
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.schema import no_spool_for_it
from mlflow_timescale.spool.outages import is_outage
from mlflow_timescale.spool.places import spool_of
from mlflow_timescale.tracking import refused_text
from mlflow_timescale.tracking.reach import require_answer

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
# They store text as JSON, which takes a lone surrogate as an escape; no answer with it can be sent.
_JSON_CALLS = {"create_assessment", "update_assessment", "upsert_dataset_records"}


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
        require_answer(arguments[0], method.__name__)
        _thread.guarded = True
        try:
            refused_text.check_request()
            if method.__name__ in _JSON_CALLS:
                refused_text.check_json(method, arguments, keywords)
            return _retried(method, arguments, keywords)
        except Exception as exc:
            _name_role(exc)
            _name_outage(exc, arguments[0])
            if _may_be_text(exc):
                refused_text.raise_with_field(exc, method, arguments, keywords)
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


def _name_role(exc: Exception) -> None:
    """Raise one line that names the role that is needed, where MLflow repeats the SQL."""
    refusal = refusal_in(exc) if _is_unexpected(exc) else None
    if refusal is not None:
        raise MlflowException(lacking(refusal), PERMISSION_DENIED) from exc


def _name_outage(exc: Exception, store: Any) -> None:
    """Raise one line for a call that cannot wait in the spool of the store's URI."""
    uri = getattr(store, "db_uri", None)
    if uri and _is_unexpected(exc) and is_outage(exc) and spool_of(DatabaseURI.parse(uri)):
        raise MlflowException(no_spool_for_it(exc), TEMPORARILY_UNAVAILABLE) from exc


def _is_conflict(exc: Exception) -> bool:
    return _is_unexpected(exc) and _has_cause(exc, _CONFLICTS)


def _is_unexpected(exc: Exception) -> bool:
    return not isinstance(exc, MlflowException) or exc.error_code in _UNEXPECTED


def _may_be_text(exc: Exception) -> bool:
    """Whether a failure can come from text that cannot be stored, or cannot be sent as it is."""
    if not isinstance(exc, MlflowException):
        return _has_cause(exc, _REFUSED_TEXT)
    # A message that repeats a lone surrogate cannot be encoded into an answer.
    if exc.error_code == "INTERNAL_ERROR" or SURROGATES.search(exc.message):
        return True
    return exc.error_code == "BAD_REQUEST" and _has_cause(exc, _REFUSED_TEXT)


def _has_cause(exc: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    return any(isinstance(cause, kinds) for cause in _causes(exc))


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        if isinstance(exc, DBAPIError) and exc.orig is not None:
            yield exc.orig
        exc = exc.__cause__ or exc.__context__
