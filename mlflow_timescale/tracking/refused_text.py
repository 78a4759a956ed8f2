"""Errors for text that cannot be stored, which name the argument or the field of the request."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from mlflow_timescale.common.text import REFUSED, SURROGATES, refusals

_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def raise_with_field(
    exc: Exception, method: Callable[..., Any], arguments: Any, keywords: Any
) -> None:
    """Raise INVALID_PARAMETER_VALUE for the first argument with text that cannot be stored."""
    _check(_given(method, arguments, keywords), REFUSED, exc)


def check_json(method: Callable[..., Any], arguments: Any, keywords: Any) -> None:
    """Raise INVALID_PARAMETER_VALUE for the first argument with a lone surrogate."""
    _check(_given(method, arguments, keywords), SURROGATES)


def check_request() -> None:
    """Raise INVALID_PARAMETER_VALUE for a lone surrogate in the request that a server handles.

    MLflow's handlers drop such a field, and those after it, and go on: a param is stored without
    its value. So the store looks at the request itself.
    """
    flask = sys.modules.get("flask")
    if flask is None or not flask.has_request_context():
        return
    # What the handler has read and parsed; an upload that it streams stays untouched.
    body = getattr(flask.request, "_cached_data", None)
    if body and _ESCAPED_SURROGATE.search(body):
        fields = flask.request.get_json(force=True, silent=True)
        _check(fields.items() if isinstance(fields, dict) else [("request", fields)], SURROGATES)


def _given(method: Callable[..., Any], arguments: Any, keywords: Any) -> list[tuple[str, Any]]:
    """The arguments of a method by their names, without `self`."""
    return list(inspect.signature(method).bind(*arguments, **keywords).arguments.items())[1:]


def _check(
    fields: Iterable[tuple[str, Any]], refused: re.Pattern[str], cause: Exception | None = None
) -> None:
    for name, value in fields:
        for field, reason in refusals(value, name, refused):
            raise MlflowException(
                f"{field} {reason}. PostgreSQL stores no NUL, UTF-8 no lone surrogate: remove it",
                INVALID_PARAMETER_VALUE,
            ) from cause
