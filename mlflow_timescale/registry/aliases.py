"""Aliases of registered models, and their history: the base of `ModelRegistry`."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_STATE

from mlflow_timescale.artifacts.databases import connection
from mlflow_timescale.common.attribution import because
from mlflow_timescale.db import Connection, load
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.registry import history as registry_history
from mlflow_timescale.registry.history import Change, active_workspace, previous_version
from mlflow_timescale.registry.models import ModelInfo

_queries = load("registry")


class Aliases:
    """The part of `ModelRegistry` that moves aliases and reads their history."""

    def __init__(self, uri: str | DatabaseURI) -> None:
        self.uri = DatabaseURI.parse(uri)

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client of the same database.

        Examples
        --------
        >>> registry.client.get_model_version_by_alias("momentum", "champion").current_stage
        'None'
        """
        return MlflowClient(self.uri.url, self.uri.url)

    def __repr__(self) -> str:
        return f"ModelRegistry({str(self.uri)!r})"

    def set_alias(
        self, name: str, alias: str, version: int, *, reason: str = "", override: bool = False
    ) -> None:
        """Point an alias at a version, and record the reason in the history.

        Raises
        ------
        MlflowException
            The alias is protected and the artifacts of the version do not verify.

        Examples
        --------
        >>> _ = registry.register_model("momentum")
        >>> registry.set_alias("momentum", "champion", 2, reason="IC 0.05 in the backtest")
        >>> registry.alias_history("momentum", "champion")[-1].reason
        'IC 0.05 in the backtest'
        """
        with because(reason, override=override):
            self.client.set_registered_model_alias(name, alias, str(version))

    def history(
        self, name: str, *, kind: str | None = None, subject: str | None = None
    ) -> list[Change]:
        """Every state of a model, its versions, tags, stages and aliases, oldest first.

        Parameters
        ----------
        kind
            Only "model", "version", "alias", "stage" or "tag".
        subject
            Only one alias, one version, or one tag ("version/key").

        Examples
        --------
        >>> [change.kind for change in registry.history("momentum", kind="alias")]
        ['alias']
        """
        with connection(self.uri) as conn:
            return registry_history.history(conn, name, kind=kind, subject=subject)

    def alias_history(self, name: str, alias: str | None = None) -> list[Change]:
        """The versions that an alias (by default every alias) pointed at, oldest first.

        Returns
        -------
        list of Change
            Each with the period, the user and the reason; `valid_to` is None while it holds.

        Examples
        --------
        >>> [(c.version, c.reason) for c in registry.alias_history("momentum", "champion")]
        [(1, 'first version')]
        """
        return self.history(name, kind="alias", subject=alias)

    def state_at(self, name: str, alias: str, as_of: datetime) -> Change | None:
        """The state of an alias at a moment; None if it was not set.

        Returns
        -------
        Change or None
            An alias that moves at T has its new state from T on, T included.

        Raises
        ------
        InvalidTime
            `as_of` has no time zone.

        Examples
        --------
        >>> from datetime import datetime, timezone
        >>> state = registry.state_at("momentum", "champion", datetime.now(timezone.utc))
        >>> state.version, state.reason, state.valid_to
        (1, 'first version', None)
        """
        with connection(self.uri) as conn:
            return registry_history.version_at(conn, name, alias, as_of)

    def version_at(self, name: str, alias: str, as_of: datetime) -> int | None:
        """The version that an alias pointed at, at a moment; None if it was not set.

        Raises
        ------
        InvalidTime
            `as_of` has no time zone.

        Examples
        --------
        >>> from datetime import datetime, timezone
        >>> registry.version_at("momentum", "champion", datetime.now(timezone.utc))
        1
        >>> registry.version_at("momentum", "champion", datetime(2020, 1, 1, tzinfo=timezone.utc))
        """
        state = self.state_at(name, alias, as_of)
        return state.version if state else None

    def rollback(
        self, name: str, alias: str, *, reason: str = "rollback", override: bool = False
    ) -> int:
        """Point an alias back at its previous version; a second rollback goes one further back.

        Returns
        -------
        int
            The version that the alias points at now. Deleted versions are skipped.

        Raises
        ------
        MlflowException
            INVALID_STATE: the alias has no earlier version.

        Examples
        --------
        >>> _ = registry.register_model("momentum")
        >>> registry.set_alias("momentum", "champion", 2)
        >>> registry.rollback("momentum", "champion", reason="IC below 0.01 for a week")
        1
        """
        existing = {version.version for version in self._versions(name)}
        states = [change for change in self.alias_history(name, alias) if change.version]
        target = previous_version([state.version or 0 for state in states], existing)
        if target is None or states[-1].valid_to is not None:
            raise MlflowException(
                f"{name}@{alias} has no earlier version to go back to; its history: "
                f"{[state.version for state in states]}, versions that exist: {sorted(existing)}",
                INVALID_STATE,
            )
        self.set_alias(name, alias, target, reason=reason, override=override)
        return target

    def _versions(self, name: str) -> list[ModelInfo]:
        with connection(self.uri) as conn:
            return self._models(conn, name=name)

    def _models(
        self,
        conn: Connection,
        *,
        name: str | None = None,
        version: int | None = None,
        limit: int | None = None,
    ) -> list[ModelInfo]:
        values: dict[str, Any] = {"name": name, "version": version, "limit": limit}
        values["workspace"] = active_workspace()
        return [ModelInfo.from_row(row) for row in conn.execute(_queries.models, values)]
