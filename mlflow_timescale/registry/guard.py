"""Tells the triggers who and why; no protected alias for a version that does not verify."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_STATE
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

from mlflow_timescale.common import attribution
from mlflow_timescale.common.settings import PROTECTED_ALIASES
from mlflow_timescale.db import load

_queries = load("registry")


def protected_aliases() -> frozenset[str]:
    """The aliases that only a verified version may take; `champion` unless the setting differs."""
    return PROTECTED_ALIASES.get()


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
        if alias in protected_aliases() and not attribution.current().override:
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


def _values() -> dict[str, str | None]:
    now = attribution.current()
    given = PROTECTED_ALIASES.is_set()
    return {
        "user": now.user or "",
        "reason": now.reason,
        "override": "true" if now.override else "false",
        # None leaves it to the database's own setting; "-" is no alias.
        "protected": (",".join(sorted(protected_aliases())) or "-") if given else None,
    }
