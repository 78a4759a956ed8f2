"""Aliases of registered models, and their history: the base of `ModelRegistry`."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_STATE, RESOURCE_DOES_NOT_EXIST

from mlflow_timescale.artifacts.databases import connection
from mlflow_timescale.common.attribution import because
from mlflow_timescale.common.rows import Rows
from mlflow_timescale.db import Connection, load, one_of
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.registry import history as registry_history
from mlflow_timescale.registry.history import Change, active_workspace, previous_version
from mlflow_timescale.registry.models import ModelInfo
from mlflow_timescale.registry.naming import (
    LATEST,
    ModelReference,
    model_and_alias,
    required_alias,
    version_number,
)

_queries = load("registry")


class Aliases:
    """The part of `ModelRegistry` that moves aliases and reads their history."""

    def __init__(
        self,
        uri: str | DatabaseURI | None = None,
        *,
        conninfo: str | None = None,
        dsn: str | None = None,
    ) -> None:
        self.uri = DatabaseURI.parse(one_of(uri, conninfo, dsn))

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
        self, name: str, alias: str, version: int | str, *, reason: str = "", override: bool = False
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
        model, _ = self._model(name)
        number = self._number(version_number(model, version))
        with because(reason, override=override):
            self.client.set_registered_model_alias(model, alias, str(number))

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
        >>> registry.history("momentum@champion")[0].version
        1
        """
        model, alias = self._model(name)
        if alias is not None:
            kind, subject = kind or "alias", subject or alias
        with connection(self.uri) as conn:
            return Rows(registry_history.history(conn, model, kind=kind, subject=subject))

    def require_model(self, name: str) -> None:
        """Raise an error for a model that does not exist, and never did.

        Raises
        ------
        MlflowException
            RESOURCE_DOES_NOT_EXIST; it names the models that are spelt alike.

        Examples
        --------
        >>> registry.require_model("momentum@champion")
        """
        model, _ = self._model(name)
        with connection(self.uri) as conn:
            error = registry_history.unknown(conn, model)
        if error:
            raise error

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
        model, chosen = self._model(name, alias)
        with connection(self.uri) as conn:
            return Rows(registry_history.history(conn, model, kind="alias", subject=chosen))

    def state_at(
        self, name: str, alias: str | None = None, as_of: datetime | None = None
    ) -> Change | None:
        """The state of an alias at a moment, by default now; None if it was not set.

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
        model, chosen = required_alias(*self._model(name, alias))
        moment = datetime.now(timezone.utc) if as_of is None else as_of
        with connection(self.uri) as conn:
            return registry_history.version_at(conn, model, chosen, moment)

    def version_at(
        self, name: str, alias: str | None = None, as_of: datetime | None = None
    ) -> int | None:
        """The version that an alias pointed at, at a moment (by default now); None if unset.

        Raises
        ------
        InvalidTime
            `as_of` has no time zone.

        Examples
        --------
        >>> from datetime import datetime, timezone
        >>> registry.version_at("momentum@champion")
        1
        >>> registry.version_at("momentum", "champion", datetime(2020, 1, 1, tzinfo=timezone.utc))
        """
        state = self.state_at(name, alias, as_of)
        return state.version if state else None

    def rollback(
        self,
        name: str,
        alias: str | None = None,
        *,
        reason: str = "rollback",
        override: bool = False,
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
        target = self.rollback_target(name, alias)
        model, chosen = required_alias(*self._model(name, alias))
        self.set_alias(model, chosen, target, reason=reason, override=override)
        return target

    def rollback_target(self, name: str, alias: str | None = None) -> int:
        """The version that `rollback` would point an alias at. Raises what it raises.

        Examples
        --------
        >>> _ = registry.register_model("momentum")
        >>> registry.set_alias("momentum", "champion", 2)
        >>> registry.rollback_target("momentum", "champion")
        1
        """
        model, chosen = required_alias(*self._model(name, alias))
        existing = {version.version for version in self._versions(model)}
        states = [change for change in self.alias_history(model, chosen) if change.version]
        target = previous_version([state.version or 0 for state in states], existing)
        if target is None or states[-1].valid_to is not None:
            raise MlflowException(
                f"{model}@{chosen} has no earlier version to go back to; its history: "
                f"{[state.version for state in states]}, versions that exist: {sorted(existing)}",
                INVALID_STATE,
            )
        return target

    def _model(self, name: str, alias: str | None = None) -> tuple[str, str | None]:
        """The model and the alias of a call; a model whose own name has an @ is taken as it is."""
        if "@" in name and self._versions(name):
            return name, alias
        return model_and_alias(name, alias)

    def _reference(self, text: str) -> ModelReference:
        """What a text names; a model whose own name has an @ is taken as it is."""
        reference = ModelReference.parse(text)
        if reference.alias and "@" in text and self._versions(text):
            return ModelReference(text)
        return reference

    def _number(self, reference: ModelReference) -> int:
        """The number of the version of a reference. Raises MlflowException if it does not exist."""
        if reference.version is not None:
            return reference.version
        name, alias = reference.name, reference.alias
        if alias != LATEST:
            return int(self.client.get_model_version_by_alias(name, alias).version)
        with connection(self.uri) as conn:
            newest = self._models(conn, name=name, limit=1)
        if not newest:
            raise MlflowException(f"model {name} has no version", RESOURCE_DOES_NOT_EXIST)
        return newest[0].version

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
