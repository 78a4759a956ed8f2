"""Pass user and reason to the history triggers; guard protected aliases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_STATE
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import event

from mlflow_timescale.common import attribution
from mlflow_timescale.common.settings import PROTECTED_ALIASES
from mlflow_timescale.db import load, rows
from mlflow_timescale.tracking.session import driver

if TYPE_CHECKING:
    from sqlalchemy import Connection as SQLConnection
    from sqlalchemy.orm import Session

_queries = load("registry")


def protected_aliases() -> frozenset[str]:
    """The aliases that only a verified version may take; `champion` unless the setting differs."""
    return PROTECTED_ALIASES.get()


class AliasRefused(MlflowException):  # type: ignore[misc]
    """A protected alias must not point at a version whose artifacts do not verify."""

    def get_http_status_code(self) -> int:
        return 409


class AuditedRegistry(SqlAlchemyStore if TYPE_CHECKING else object):  # type: ignore[misc]
    """Mixin of the registry stores: attributes every write, and guards protected aliases."""

    def __init__(self, db_uri: str, read_db_uri: str | None = None) -> None:
        super().__init__(db_uri, read_db_uri=read_db_uri)
        self.ManagedSessionMaker: Any = _attributed(self.ManagedSessionMaker)

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        """Refuse a protected alias to a version that does not verify, unless overridden."""
        if alias in protected_aliases() and not attribution.current().override:
            self._require_verified(name, alias, version)
        super().set_registered_model_alias(name, alias, version)

    def get_model_version_download_uri(self, name: str, version: str) -> str:
        """Where the files of a version are: what every `models:/` download begins with.

        Raises ArtifactMismatch if they are not those that were registered.
        """
        from mlflow_timescale.artifacts.refusals import ArtifactMismatch

        uri: str = super().get_model_version_download_uri(name, version)
        with self.ManagedSessionMaker() as session:
            values = {"workspace": self._get_active_workspace(), "name": name, "version": version}
            changes = rows.if_migrated(driver(session), _queries.version_changes, values)
        if changes:
            raise ArtifactMismatch(
                f"version {version} of {name} is not what was registered: {len(changes)} of its "
                f"files differ, the first is {changes[0][0]} ({changes[0][1]}); register the "
                f"present files as a new version, or restore the old ones"
            )
        return uri

    def _require_verified(self, name: str, alias: str, version: str) -> None:
        from mlflow_timescale.artifacts import verify
        from mlflow_timescale.db.uri import DatabaseURI

        location = self.get_model_version_download_uri(name, version)
        selection = verify.selection_of(location)
        database = DatabaseURI.parse(self.db_uri)
        failures = verify.failing(database, selection, purpose="alias", location=location)
        if failures:
            failed = failures[0]
            raise AliasRefused(
                f"version {version} of {name} cannot become {alias!r}: {len(failures)} of its "
                f"artifacts do not verify, the first is {failed.location} ({failed.outcome}). Log "
                f"the model again, or override it on the record: mlflow_timescale.because(reason, "
                f"override=True)",
                INVALID_STATE,
            )


def _attributed(
    sessions: Callable[..., AbstractContextManager[Any]],
) -> Callable[..., AbstractContextManager[Any]]:
    """Sessions that set user and reason for the triggers, in the transaction of each write."""

    @contextmanager
    def make(read_only: bool = True) -> Iterator[Any]:
        with sessions(read_only=read_only) as session:
            if not read_only:
                # At each BEGIN: MLflow rolls back within a session and writes again.
                event.listen(session, "after_begin", _attribute)
            yield session

    return make


def _attribute(_session: Session, _transaction: Any, connection: SQLConnection) -> None:
    # The history triggers read transaction-local settings: whatever writes next in this
    # transaction, MLflow's own SQL included, is recorded with them.
    connection.exec_driver_sql(_queries.attribute.as_string(), _values())


def _values() -> dict[str, str | None]:
    attributed = attribution.current()
    is_set = PROTECTED_ALIASES.is_set()
    return {
        "user": attributed.user or "",
        "authenticated": attributed.authenticated or "",
        "claimed": attributed.claimed or "",
        "reason": attributed.reason,
        "override": "true" if attributed.override else "false",
        # None keeps the setting of the database (ALTER DATABASE ... SET); "-" matches no alias.
        "protected": (",".join(sorted(protected_aliases())) or "-") if is_set else None,
    }
