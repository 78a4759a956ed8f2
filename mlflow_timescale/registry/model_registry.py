"""`ModelRegistry`: versions, metrics, artifacts and aliases of models, through MLflow's entities.

Everything it writes is MLflow's own (a run, a model version, tags, metrics, artifacts), so that the
UI and every MLflow client show it. What MLflow has no answer to (which version was champion at a
moment) comes from the history that the database keeps.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    INVALID_STATE,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
)

from mlflow_timescale.artifacts import ledger
from mlflow_timescale.artifacts.databases import connection
from mlflow_timescale.artifacts.locations import IN_DATABASE, canonical
from mlflow_timescale.common.attribution import because
from mlflow_timescale.db import Connection, load
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.registry import history as registry_history
from mlflow_timescale.registry.history import Change, active_workspace

DATASET_TYPES = ("train", "val", "test", "backtest", "live")
_queries = load("registry")
_artifact_queries = load("artifacts")


@dataclass(frozen=True)
class ModelInfo:
    """One version of a model; `model_id` is the id of the run that stands for it."""

    model_id: UUID | None
    name: str
    version: int
    strategy_type: str | None
    description: str | None
    created_at: datetime

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> ModelInfo:
        name, version, run_id, *rest = row
        return cls(UUID(run_id) if run_id else None, name, version, *rest)


@dataclass(frozen=True)
class ModelWithMetrics:
    """A version and the latest value of each of its metrics, as "sharpe_ratio_test"."""

    model: ModelInfo
    metrics: dict[str, float]


class ModelRegistry:
    """The model registry of a database, in the workspace that MLflow works in.

    registry = ModelRegistry("postgresql+timescaledb://ann@db.example/trading")
    model_id = registry.register_model("momentum_xgb", "momentum", {"max_depth": 5})
    registry.log_metrics(model_id, {"ic": 0.035, "sharpe_ratio": 1.35}, dataset_type="test")
    best = registry.get_best_model("momentum", "sharpe_ratio")
    best.model.version, best.metrics["ic_test"]  # (1, 0.035)
    registry.version_at("momentum_xgb", "champion", datetime(2024, 1, 15, tzinfo=timezone.utc))
    """

    def __init__(self, uri: str | DatabaseURI) -> None:
        self.uri = DatabaseURI.parse(uri)

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's own client of the same database."""
        return MlflowClient(self.uri.url, self.uri.url)

    def __repr__(self) -> str:
        return f"ModelRegistry({str(self.uri)!r})"

    def register_model(
        self,
        name: str,
        strategy_type: str | None = None,
        params: Mapping[str, Any] | None = None,
        description: str | None = None,
        version: int | None = None,
        *,
        source: str | None = None,
        run_id: str | None = None,
        dataset_start: datetime | None = None,
        dataset_end: datetime | None = None,
    ) -> UUID:
        """Register a new version; the number is the next one unless `version` says which.

        A run is made to stand for it unless `run_id` names the one that trained it; `source` is a
        logged model's URI, else the run's artifacts are the model. Raises MlflowException
        (RESOURCE_ALREADY_EXISTS) for a version that exists.
        """
        self._ensure_model(name)
        run_id = run_id or self._make_run(name)
        tags = {
            "strategy_type": strategy_type,
            "dataset_start": dataset_start.isoformat() if dataset_start else None,
            "dataset_end": dataset_end.isoformat() if dataset_end else None,
        }
        given = {key: value for key, value in tags.items() if value is not None}
        self.client.log_batch(
            run_id,
            params=[Param(key, _text(value)) for key, value in (params or {}).items()],
            tags=[RunTag(key, value) for key, value in given.items()],
        )
        source = source or self.client.get_run(run_id).info.artifact_uri
        number = self._make_version(name, version, source, run_id, description)
        if strategy_type is not None:
            self.client.set_model_version_tag(name, str(number), "strategy_type", strategy_type)
        return UUID(run_id)

    def log_metrics(
        self,
        model_id: UUID | str,
        metrics: Mapping[str, float],
        dataset_type: str | None = None,
        *,
        step: int = 0,
        evaluated_at: datetime | None = None,
    ) -> None:
        """Log metrics of a version, named "<dataset_type>/<metric>" as the views of `mlops` expect.

        Raises ValueError for an unknown dataset type or a time without a time zone.
        """
        if dataset_type is not None and dataset_type not in DATASET_TYPES:
            raise ValueError(f"dataset_type {dataset_type!r} is not one of {DATASET_TYPES}")
        moment = registry_history.aware(evaluated_at or datetime.now(timezone.utc))
        at = int(moment.timestamp() * 1000)
        points = [
            Metric(_metric_key(name, dataset_type), float(value), at, step)
            for name, value in metrics.items()
        ]
        self.client.log_batch(self._run_id(model_id), metrics=points)

    def log_artifact(
        self, model_id: UUID | str, path: str | Path, artifact_type: str | None = None
    ) -> int:
        """Log a file of a version ("weights", "config", "scaler"); return its id in the ledger.

        Raises FileNotFoundError if there is no such file: nothing is recorded without its checksum.
        """
        path, run_id = Path(path), self._run_id(model_id)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not a file, so it has no checksum to record")
        self.client.log_artifact(run_id, str(path))
        with connection(self.uri) as conn:
            if artifact_type:
                values = {"artifact_type": artifact_type, "path": path.name, "run_id": run_id}
                conn.execute(_artifact_queries.set_type, {**values, "model_id": None})
            found = ledger.select(conn, ledger.Selection(run_id=run_id, path=path.name))
        if not found:
            root = self.client.get_run(run_id).info.artifact_uri
            raise MlflowException(
                f"{path.name} was logged to {root}, which keeps no ledger: use "
                f"{IN_DATABASE}:/ or sha256+<scheme>: as the artifact root",
                INVALID_STATE,
            )
        return found[0].artifact_id

    def get_model(self, name: str, version: int | None = None) -> ModelInfo | None:
        """A version, the newest if none is given; None if there is no such version."""
        with connection(self.uri) as conn:
            found = self._models(conn, name=name, version=version, limit=1)
        return found[0] if found else None

    def get_best_model(
        self,
        strategy_type: str | None,
        metric_name: str,
        dataset_type: str | None = "test",
        higher_is_better: bool = True,
    ) -> ModelWithMetrics | None:
        """The version with the best latest value of a metric: never NaN; of equals the newest.

        Metrics count wherever they were logged: with the version's run, or for its logged model by
        an evaluation in another run. They are those of the view `mlops.models`.
        """
        values = {
            "strategy_type": strategy_type,
            "key": _metric_key(metric_name, dataset_type),
            "higher_is_better": higher_is_better,
            "workspace": active_workspace(),
        }
        with connection(self.uri) as conn:
            row = conn.execute(_queries.best_model, values).fetchone()
        if row is None:
            return None
        *model, metrics = row
        found = {_flat(key): float(value) for key, value in metrics.items()}
        return ModelWithMetrics(ModelInfo.from_row(model), found)

    def load_model(self, version: str, **keywords: Any) -> Any:
        """Load a pyfunc model, "momentum/3" or "momentum@champion", every byte of it checked."""
        import mlflow.pyfunc

        return mlflow.pyfunc.load_model(self.download(version), **keywords)

    def download(self, version: str, dst_path: str | None = None) -> str:
        """Bring a version's files to a local directory, every byte of them checked."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        repository = get_artifact_repository(self.artifact_uri(version), self.uri.url, self.uri.url)
        return str(repository.download_artifacts("", dst_path))

    def artifact_uri(self, version: str) -> str:
        """Where the files of "momentum/3" or "momentum@champion" are."""
        from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository

        name, number = self._parse(version)
        uri: str = self.client.get_model_version_download_uri(name, number)
        if uri.startswith("models:/m-"):
            uri = self.client.get_logged_model(uri.removeprefix("models:/")).artifact_location
        elif uri.startswith("runs:/"):
            uri = RunsArtifactRepository.get_underlying_uri(uri, self.uri.url)
        return self._without_proxy(uri)

    def set_alias(
        self, name: str, alias: str, version: int, *, reason: str = "", override: bool = False
    ) -> None:
        """Point an alias at a version, and keep why."""
        with because(reason, override=override):
            self.client.set_registered_model_alias(name, alias, str(version))

    def history(
        self, name: str, *, kind: str | None = None, subject: str | None = None
    ) -> list[Change]:
        """Everything the registry ever said of a model, oldest first."""
        with connection(self.uri) as conn:
            return registry_history.history(conn, name, kind=kind, subject=subject)

    def alias_history(self, name: str, alias: str | None = None) -> list[Change]:
        """Where an alias pointed, from when to when, by whom and why."""
        return self.history(name, kind="alias", subject=alias)

    def state_at(self, name: str, alias: str, as_of: datetime) -> Change | None:
        """The state of an alias at a moment; None if it was not set."""
        with connection(self.uri) as conn:
            return registry_history.version_at(conn, name, alias, as_of)

    def version_at(self, name: str, alias: str, as_of: datetime) -> int | None:
        """Which version an alias pointed at, at a moment; None if at none."""
        state = self.state_at(name, alias, as_of)
        return state.version if state else None

    def rollback(
        self, name: str, alias: str, *, reason: str = "rollback", override: bool = False
    ) -> int:
        """Point an alias back at the version it had before the current one, and return that one.

        A second rollback goes one further back. Raises MlflowException if there is nothing to go
        back to.
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

    def _run_id(self, model_id: UUID | str | ModelInfo) -> str:
        """The run that stands for a version, which is given as id, "name/version" or ModelInfo."""
        if isinstance(model_id, str) and ("/" in model_id or "@" in model_id):
            name, number = self._parse(model_id)
            run_id = self.client.get_model_version(name, number).run_id
        else:
            found = model_id.model_id if isinstance(model_id, ModelInfo) else UUID(str(model_id))
            run_id = found.hex if found else None
        if run_id:
            return str(run_id)
        raise MlflowException(
            f"{model_id} has no run to log to: register it with register_model, or with a run_id",
            INVALID_STATE,
        )

    def _parse(self, version: str) -> tuple[str, str]:
        name, at, alias = version.rpartition("@")
        if at:
            return name, str(self.client.get_model_version_by_alias(name, alias).version)
        name, slash, number = version.rpartition("/")
        if not slash or not number.isdigit():
            raise MlflowException(
                f"{version!r} is no model version; write NAME/3 or NAME@champion",
                INVALID_PARAMETER_VALUE,
            )
        return name, number

    def _without_proxy(self, uri: str) -> str:
        """What `mlflow-timescale server` proxies is in the database, and can be read there."""
        if not uri.startswith("mlflow-artifacts:"):
            return uri
        path = canonical(uri).removeprefix("mlflow-artifacts:").lstrip("/")
        with connection(self.uri) as conn:
            row = conn.execute(_queries.in_database, {"path": path}).fetchone()
        return f"{IN_DATABASE}:/{path}" if row and row[0] else uri

    def _ensure_model(self, name: str) -> None:
        try:
            self.client.create_registered_model(name)
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _make_run(self, name: str) -> str:
        from mlflow.tracking.context.registry import resolve_tags

        run = self.client.create_run(self._experiment(name), tags=resolve_tags(), run_name=name)
        self.client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    def _experiment(self, name: str) -> str:
        """The model's own experiment, which another process may be creating at the same time."""
        for _attempt in range(2):
            if found := self.client.get_experiment_by_name(name):
                return str(found.experiment_id)
            try:
                return str(self.client.create_experiment(name))
            except MlflowException as exc:
                if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        raise MlflowException(
            f"experiment {name} is there and is not; was it deleted? Restore it: mlflow "
            f"experiments restore",
            RESOURCE_DOES_NOT_EXIST,
        )

    def _make_version(
        self, name: str, version: int | None, source: str, run_id: str, description: str | None
    ) -> int:
        # MLflow gives up after three collisions, which eight trainers that end together exceed.
        with connection(self.uri) as conn:
            values = {"name": name, "workspace": active_workspace()}
            conn.execute(_queries.serialize_versions, values)
            if version is None:
                made = self.client.create_model_version(
                    name, source, run_id, description=description
                )
                return int(made.version)
            self._insert_version(conn, name, version, source, run_id, description)
            return version

    @staticmethod
    def _insert_version(
        conn: Connection,
        name: str,
        version: int,
        source: str,
        run_id: str,
        description: str | None,
    ) -> None:
        if version < 1:
            raise ValueError(f"version {version} is not positive")
        values = {
            "name": name,
            "version": version,
            "source": source,
            "run_id": run_id,
            "description": description,
            "now": int(time.time() * 1000),
            "workspace": active_workspace(),
        }
        try:
            conn.execute(_queries.insert_version, values)
        except psycopg.errors.UniqueViolation as exc:
            raise MlflowException(
                f"version {version} of {name} exists; leave the number out to get the next one",
                RESOURCE_ALREADY_EXISTS,
            ) from exc


def previous_version(history: list[int], existing: set[int]) -> int | None:
    """Where an alias goes back to: moves are a stack, and a move to the version below is a return.

    >>> previous_version([1, 2, 3], {1, 2, 3})
    2
    >>> previous_version([1, 2, 3, 2], {1, 2, 3})
    1
    >>> previous_version([1, 2, 3], {1, 3})
    1
    """
    stack: list[int] = []
    for version in history:
        if stack and stack[-1] == version:
            continue
        if len(stack) > 1 and stack[-2] == version:
            stack.pop()
        else:
            stack.append(version)
    current = stack[-1:]
    earlier = [version for version in stack[:-1] if version in existing and [version] != current]
    return earlier[-1] if earlier else None


def _metric_key(name: str, dataset_type: str | None) -> str:
    return f"{dataset_type}/{name}" if dataset_type else name


def _flat(key: str) -> str:
    dataset_type, slash, name = key.partition("/")
    return f"{name}_{dataset_type}" if slash and dataset_type in DATASET_TYPES else key


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
