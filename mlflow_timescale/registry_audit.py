"""Who changed the registry and why; and no protected alias for a version that does not verify."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_STATE
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

from mlflow_timescale.db import load

PROTECTED = "MLFLOW_TIMESCALE_PROTECTED_ALIASES"
_queries = load("registry")


@dataclass(frozen=True)
class Attribution:
    """Why something is done to the registry, and whether a failed check is overridden."""

    reason: str = ""
    override: bool = False


_NOTHING = Attribution()
_current: ContextVar[Attribution] = ContextVar("registry_attribution", default=_NOTHING)


@contextmanager
def because(reason: str, *, override: bool = False) -> Iterator[None]:
    """Record why the registry is changed in this block.

    With `override` a protected alias may go to a version whose artifacts do not verify; the
    history says so.

    >>> with because("IC fell below 0.02 for ten days"):
    ...     pass  # client.set_registered_model_alias("momentum", "champion", 3)
    """
    token = _current.set(Attribution(reason, override))
    try:
        yield
    finally:
        _current.reset(token)


def protected_aliases() -> frozenset[str]:
    """The aliases that only a verified version may take; `champion` unless the setting differs."""
    names = os.environ.get(PROTECTED, "champion").split(",")
    return frozenset(name.strip() for name in names if name.strip())


class AliasRefused(MlflowException):  # type: ignore[misc]
    """A protected alias asked for a version whose artifacts are not what was logged."""

    def get_http_status_code(self) -> int:
        return 409


class AuditedRegistry(SqlAlchemyStore if TYPE_CHECKING else object):  # type: ignore[misc]
    """Mixed into the registry stores: tells the triggers who and why, and guards aliases."""

    def __init__(self, db_uri: str, read_db_uri: str | None = None) -> None:
        super().__init__(db_uri, read_db_uri=read_db_uri)
        self.ManagedSessionMaker: Any = _attributed(self.ManagedSessionMaker)

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        """Refuse a protected alias to a version that does not verify, unless overridden."""
        if alias in protected_aliases() and not _current.get().override:
            self._require_verified(name, alias, version)
        super().set_registered_model_alias(name, alias, version)

    def _require_verified(self, name: str, alias: str, version: str) -> None:
        from mlflow_timescale.artifacts import verify
        from mlflow_timescale.db.uri import DatabaseURI

        location = self.get_model_version_download_uri(name, version)
        selection = verify.selection_of(location)
        database = DatabaseURI.parse(self.db_uri)
        failures = verify.failing(database, selection, purpose="alias", location=location)
        if failures:
            first = failures[0]
            raise AliasRefused(
                f"version {version} of {name} cannot become {alias!r}: {len(failures)} of its "
                f"artifacts do not verify, the first is {first.location} ({first.outcome}). Log "
                f"the model again, or override it on the record: mlflow_timescale.because(reason, "
                f"override=True)",
                INVALID_STATE,
            )


def _attributed(
    sessions: Callable[..., AbstractContextManager[Any]],
) -> Callable[..., AbstractContextManager[Any]]:
    """Sessions that say at the start of a write who asks and why."""

    @contextmanager
    def make(read_only: bool = True) -> Iterator[Any]:
        with sessions(read_only=read_only) as session:
            if not read_only:
                connection = session.connection()
                connection.exec_driver_sql(_queries.attribute.as_string(), _values())
            yield session

    return make


def _values() -> dict[str, str]:
    from mlflow_timescale.artifacts.databases import mlflow_user

    now = _current.get()
    override = "true" if now.override else "false"
    return {"user": mlflow_user() or "", "reason": now.reason, "override": override}
