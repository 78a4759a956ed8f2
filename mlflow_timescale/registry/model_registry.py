"""`ModelRegistry`: versions, metrics, artifacts and aliases of models, through MLflow's entities.

Everything it writes is an entity of MLflow (a run, a model version, tags, metrics, artifacts), so
the UI and every MLflow client show it. Questions that MLflow cannot answer, such as which version
was champion at a moment, are answered from the history tables of `mlops`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

from mlflow.entities import Metric, Param, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_STATE

from mlflow_timescale.artifacts import ledger
from mlflow_timescale.artifacts.databases import connection
from mlflow_timescale.artifacts.locations import IN_DATABASE, canonical
from mlflow_timescale.common.time import require_zone
from mlflow_timescale.db import load
from mlflow_timescale.registry import registration, version_files
from mlflow_timescale.registry.aliases import Aliases
from mlflow_timescale.registry.history import active_workspace
from mlflow_timescale.registry.metric_keys import flat, metric_key, metric_value, unknown_metric
from mlflow_timescale.registry.models import ModelInfo, ModelWithMetrics
from mlflow_timescale.registry.naming import version_number, version_reference
from mlflow_timescale.registry.near_names import unknown_strategy

_queries = load("registry")
_artifact_queries = load("artifacts")
_RUN_ID = re.compile(r"^[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}$")
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # of a version, of an alias


class ModelRegistry(Aliases):
    """The model registry of a database, in the workspace that MLflow works in.

    Parameters
    ----------
    uri, conninfo, dsn
        The database, "postgresql+timescaledb://...", under one of these names. Creating the object
        does no I/O.

    Shared parameters
    -----------------
    model_id
        The version: the id that `register_model` returned, or a text as below.
    name, alias
        A registered model, and one of its aliases, such as "champion". "NAME@alias" as `name`
        stands for both.
    version
        A version: "NAME/3", "NAME@alias", or "NAME/latest", each with or without "models:/" in
        front of it. In `get_model` and `set_alias` also its number.
    as_of
        A moment with a time zone.
    reason, override
        `reason` is kept in the history (at most 2,000 bytes, else ValueError). With `override` a
        protected alias may point at a version whose artifacts do not verify.

    Raises
    ------
    MlflowException
        Any method: the model, version or alias does not exist, or the database refuses the call.

    Examples
    --------
    The examples of the methods continue from here.

    >>> registry = ModelRegistry(uri)
    >>> model_id = registry.register_model("momentum", "momentum", {"max_depth": 5})
    >>> registry.log_metrics(model_id, {"ic": 0.035, "sharpe_ratio": 1.35}, "test")
    >>> registry.set_alias("momentum", "champion", 1, reason="first version")
    """

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
        """Register a new version of a model, and the model if it does not exist.

        Parameters
        ----------
        strategy_type, description
            Shown with the version; `get_best_model` compares versions of one strategy type.
        params
            Logged with the run; values that are not text become JSON.
        version
            The number; by default the next one.
        source
            The files of the version: a logged model's URI, "models:/m-..." or "runs:/RUN/NAME"; by
            default the artifacts of the run.
        run_id
            The run that trained the model; by default a new, finished run.
        dataset_start, dataset_end
            The period of the training data, kept as tags of the run.

        Returns
        -------
        UUID
            The id of the run, which identifies the version in `log_metrics` and `log_artifact`.

        Raises
        ------
        ValueError
            `version` is below 1.
        MlflowException
            RESOURCE_ALREADY_EXISTS: the version exists.

        Examples
        --------
        >>> from datetime import datetime, timezone
        >>> start = datetime(2015, 1, 1, tzinfo=timezone.utc)
        >>> model_id = registry.register_model("momentum", "momentum", dataset_start=start)
        >>> registry.get_model("momentum").version
        2
        """
        registration.ensure_model(self.client, name)
        run_id = run_id or registration.create_run(self.client, name)
        tags = {
            "strategy_type": strategy_type,
            "dataset_start": dataset_start.isoformat() if dataset_start else None,
            "dataset_end": dataset_end.isoformat() if dataset_end else None,
        }
        self.client.log_batch(
            run_id,
            params=[Param(key, _text(value)) for key, value in (params or {}).items()],
            tags=[RunTag(key, value) for key, value in tags.items() if value is not None],
        )
        if source is None:
            source = self.client.get_run(run_id).info.artifact_uri
        source = registration.resolved_source(self.client, source)
        number = registration.create_version(
            self.uri, self.client, name, version, source, run_id, description
        )
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
        """Log metrics of a version, under the keys "<dataset_type>/<metric>".

        Parameters
        ----------
        metrics
            Values by name.
        dataset_type
            "train", "val", "test", "backtest" or "live"; None logs the names as they are.
        step
            The step of every value.
        evaluated_at
            The time of the values; by default now.

        Raises
        ------
        ValueError
            The data set type is unknown, or a value is no number.
        InvalidTime
            `evaluated_at` has no time zone.

        Examples
        --------
        >>> registry.log_metrics("momentum@champion", {"ic": 0.041}, "live")
        >>> registry.get_best_model("momentum", "ic", "live").metrics["ic_live"]
        0.041
        """
        moment = require_zone(evaluated_at or datetime.now(timezone.utc), "evaluated_at")
        milliseconds = int(moment.timestamp() * 1000)
        points = [
            Metric(metric_key(name, dataset_type), metric_value(name, value), milliseconds, step)
            for name, value in metrics.items()
        ]
        self.client.log_batch(self._run_id(model_id), metrics=points)

    def log_artifact(
        self, model_id: UUID | str, path: str | Path, artifact_type: str | None = None
    ) -> int | None:
        """Log a file of a version; its SHA-256 enters the ledger.

        Parameters
        ----------
        path
            A local file. A URL, such as "s3://models/weights.pkl", is recorded as a tag of the run,
            without a checksum; a warning (`UnverifiedArtifact`) states that.
        artifact_type
            "weights", "config", "scaler" or another word; by default guessed from the name.

        Returns
        -------
        int or None
            The id of the ledger's row; None for a URL, which has none.

        Raises
        ------
        FileNotFoundError
            `path` is not a file.
        MlflowException
            INVALID_STATE: the artifact root has no ledger.

        Examples
        --------
        >>> from pathlib import Path
        >>> _ = Path("scaler.json").write_text('{"mean": 0.0, "sd": 1.0}')
        >>> registry.log_artifact(model_id, "scaler.json", "scaler")
        1
        """
        run_id = self._run_id(model_id)
        if version_files.is_remote(path):
            version_files.record_remote(self.client, run_id, str(path), artifact_type)
            return None
        path = Path(str(path).removeprefix("file://"))
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not a file, so it has no checksum to record")
        self.client.log_artifact(run_id, str(path))
        with connection(self.uri) as conn:
            if artifact_type:
                values = {"artifact_type": artifact_type, "path": path.name, "run_id": run_id}
                conn.execute(_artifact_queries.set_type, {**values, "model_id": None})
            entries = ledger.select(conn, ledger.Selection(run_id=run_id, path=path.name))
        if not entries:
            root = self.client.get_run(run_id).info.artifact_uri
            raise MlflowException(
                f"{path.name} was logged to {root}, which keeps no ledger: use "
                f"{IN_DATABASE}:/ or sha256+<scheme>: as the artifact root",
                INVALID_STATE,
            )
        return entries[0].artifact_id

    def get_model(self, name: str, version: int | str | None = None) -> ModelInfo | None:
        """One version of a model, by default the newest.

        Parameters
        ----------
        name
            A model, or a version as in `load_model`.

        Returns
        -------
        ModelInfo or None
            None if the version does not exist.

        Examples
        --------
        >>> registry.get_model("momentum").strategy_type
        'momentum'
        >>> registry.get_model("momentum@champion").version
        1
        >>> registry.get_model("momentum", 7) is None
        True
        """
        reference = self._reference(name)
        if version is not None:
            reference = version_number(reference.name, version)
        try:
            number = self._number(reference) if reference.is_version else None
        except MlflowException as exc:
            if exc.error_code in _ABSENT:
                return None
            raise
        with connection(self.uri) as conn:
            models = self._models(conn, name=reference.name, version=number, limit=1)
        return models[0] if models else None

    def get_best_model(
        self,
        strategy_type: str | None,
        metric_name: str,
        dataset_type: str | None = "test",
        higher_is_better: bool = True,
    ) -> ModelWithMetrics | None:
        """The version with the best latest value of a metric; the newest of equal ones.

        A metric counts if it was logged with the version's run, or for its logged model by an
        evaluation in another run; the view `mlops.models` shows the same values. NaN never wins.

        Parameters
        ----------
        strategy_type
            Only versions of this type; None for all.
        metric_name, dataset_type
            As in `log_metrics`.
        higher_is_better
            False for metrics such as a drawdown or a loss.

        Returns
        -------
        ModelWithMetrics or None
            None if no version has a value of the metric yet: of this strategy type, and on this
            data set.

        Raises
        ------
        ValueError
            The data set type is unknown, or no version has ever logged the metric, on any data
            set, or no version has the strategy type and others have one that is spelt alike;
            the error lists what exists.

        Examples
        --------
        >>> best = registry.get_best_model("momentum", "sharpe_ratio")
        >>> best.model.version, best.metrics
        (1, {'ic_test': 0.035, 'sharpe_ratio_test': 1.35})
        """
        values = {
            "strategy_type": strategy_type,
            "key": metric_key(metric_name, dataset_type),
            "higher_is_better": higher_is_better,
            "workspace": active_workspace(),
        }
        with connection(self.uri) as conn:
            row = conn.execute(_queries.best_model, values).fetchone()
            if row is None:
                keys = conn.execute(_queries.metric_keys, values).fetchall()
                types = conn.execute(_queries.strategy_types, values).fetchall()
                error = unknown_metric(metric_name, [key for (key,) in keys])
                error = unknown_strategy(strategy_type, [kind for (kind,) in types]) or error
                if error:
                    raise error
                return None
        *model, metrics = row
        by_name = {flat(key): float(value) for key, value in metrics.items()}
        return ModelWithMetrics(ModelInfo.from_row(model), by_name)

    def load_model(self, version: str, **keywords: Any) -> Any:
        """Load a pyfunc model; the checksum of every file is verified.

        Parameters
        ----------
        **keywords
            Passed to `mlflow.pyfunc.load_model`.

        Returns
        -------
        mlflow.pyfunc.PyFuncModel

        Raises
        ------
        MlflowException
            The version has no pyfunc model (the error lists its files; nothing of them is
            unpickled), or a file differs from the ledger.

        Examples
        --------
        >>> import mlflow
        >>> mlflow.set_tracking_uri(uri)
        >>> with mlflow.start_run() as run:
        ...     logged = mlflow.pyfunc.log_model(
        ...         name="model", python_model=lambda model_input: model_input * 2,
        ...         input_example=[1.0], pip_requirements=[])
        >>> _ = registry.register_model("double", source=logged.model_uri, run_id=run.info.run_id)
        >>> registry.load_model("double/1").predict([1.5]).values.tolist()
        [[3.0]]
        """
        import mlflow.pyfunc

        directory = self.download(version)
        if not Path(directory, "MLmodel").is_file():
            entity = self._version(version)
            remote = version_files.remote_files(self.client, entity.run_id)
            raise version_files.no_model(version, directory, remote)
        return mlflow.pyfunc.load_model(directory, **keywords)

    def download(self, version: str, dst_path: str | None = None) -> str:
        """Copy the files of a version to a local directory; every checksum is verified.

        Parameters
        ----------
        dst_path
            An existing directory; by default a new temporary one.

        Returns
        -------
        str
            The directory of the files.

        Raises
        ------
        MlflowException
            A file differs from the ledger.

        Examples
        --------
        >>> from pathlib import Path
        >>> _ = Path("scaler.json").write_text("{}")
        >>> _ = registry.log_artifact(model_id, "scaler.json")
        >>> [path.name for path in Path(registry.download("momentum/1")).iterdir()]
        ['scaler.json']
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        repository = get_artifact_repository(self.artifact_uri(version), self.uri.url, self.uri.url)
        return str(repository.download_artifacts("", dst_path))

    def artifact_uri(self, version: str) -> str:
        """The location of the files of a version.

        Returns
        -------
        str
            A URI that `mlflow.artifacts` resolves; files that a tracking server proxies are given
            by their place in the database.

        Raises
        ------
        MlflowException
            INVALID_PARAMETER_VALUE: `version` is neither "NAME/3" nor "NAME@alias".

        Examples
        --------
        >>> registry.artifact_uri("momentum/1").partition(":")[0]
        'timescaledb-artifacts'
        """
        from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository

        entity = self._version(version)
        uri: str = self.client.get_model_version_download_uri(entity.name, str(entity.version))
        if uri.startswith("models:/m-"):
            uri = self.client.get_logged_model(uri.removeprefix("models:/")).artifact_location
        elif uri.startswith("runs:/"):
            uri = RunsArtifactRepository.get_underlying_uri(uri, self.uri.url)
        return self._without_proxy(uri)

    def _run_id(self, model_id: UUID | str | ModelInfo) -> str:
        """The run behind a version, which is given as id, as text or as ModelInfo."""
        if isinstance(model_id, str) and not _RUN_ID.match(model_id):
            run_id = self._version(model_id).run_id
        else:
            uuid = model_id.model_id if isinstance(model_id, ModelInfo) else UUID(str(model_id))
            run_id = uuid.hex if uuid else None
        if run_id:
            return str(run_id)
        raise MlflowException(
            f"{model_id} has no run to log to: register it with register_model, or with a run_id",
            INVALID_STATE,
        )

    def _version(self, version: str) -> ModelVersion:
        """The version that a text names. Raises MlflowException if there is none."""
        reference = version_reference(version)
        return self.client.get_model_version(reference.name, str(self._number(reference)))

    def _without_proxy(self, uri: str) -> str:
        """Files that `mlflow-timescale server` proxies are read from the database directly."""
        if not uri.startswith("mlflow-artifacts:"):
            return uri
        path = canonical(uri).removeprefix("mlflow-artifacts:").lstrip("/")
        with connection(self.uri) as conn:
            row = conn.execute(_queries.in_database, {"path": path}).fetchone()
        return f"{IN_DATABASE}:/{path}" if row and row[0] else uri


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
