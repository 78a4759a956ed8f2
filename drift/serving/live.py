"""`Serving`: predictions of live code, recorded with everything that they were made from."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from weakref import WeakSet

from mlflow_timescale import db
from mlflow_timescale.common import packages
from mlflow_timescale.common.frames import pandas_series
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.features import FeatureStore, FeatureView
from mlflow_timescale.spool import Spool
from mlflow_timescale.spool.outbox import PATIENCE_SECONDS

from . import requests
from .models import LoadedModel, ModelUnavailable, load_verified, model_input, picked
from .reading import described, latest_cells
from .recorder import PredictionRecorder, Receipt, entity_groups, stored
from .requests import Origin, Request, SignalName

__all__ = ["Receipt", "Serving"]

OF_VIEW = packages.attribute("feature_store", "read.query").OF_VIEW
selection = packages.attribute("feature_store", "catalogue.selection")


class Serving(PredictionRecorder):
    """Live predictions of one strategy, remembered.

    Parameters
    ----------
    uri, conninfo, dsn
        The database, under one of these names. Creating the object does no I/O.
    strategy
        The strategy of the drift monitor, which reads its predictions from here. A new one is
        recorded with the first request.
    model
        A registered model, such as "models:/momentum@champion". The version is loaded at the first
        prediction, every file's SHA-256 is verified, and it stays until `refresh`, also where the
        alias moves.
    features
        The features that `predict` reads: names, or views; by default the columns of the model's
        signature.
    feature_version, max_age, max_staleness
        As of `FeatureStore.get_latest`.
    output
        The column of the model's output that is the prediction, where it has several.
    model_name, model_version
        The caller's own label of a model that its own code loads.
    signal, horizon
        The name of the predictions, and how many sessions they look ahead.
    calendar
        The trading calendar of a new strategy; by default the monitor's, "XNYS".
    code_version
        By default the git commit of the working directory.
    spool
        Where requests wait while the database is away: a folder, or a `Spool` of
        `mlflow_timescale.spool`, with a limit and a policy. By default a folder of the database's
        in MLFLOW_TIMESCALE_SPOOL; False raises ConnectionFailed instead.
    patience
        Seconds that a call waits for the database before its request goes to the spool; 10,000
        predictions in one request double it.

    Shared parameters
    -----------------
    entities
        The names: a text, or a list of n texts.
    as_of
        The decision time (aware); by default now. For n entities also n times.
    request_id
        The caller's id of the request, unique within the strategy. Recording the same request
        again changes nothing; by default every call is a request of its own.

    Raises
    ------
    db.Error
        The database cannot be reached, or refuses the call.
    ValueError
        `horizon` is no number of sessions, `patience` no time; `strategy` or `request_id` is empty
        or too long.

    Examples
    --------
    The examples of the methods continue from here.

    >>> from datetime import datetime, timezone
    >>> live = Serving(uri, "momentum", model_name="momentum_gbm", model_version="7")
    >>> close = datetime(2024, 4, 18, 19, 55, tzinfo=timezone.utc)
    """

    def __init__(
        self,
        uri: str | DatabaseURI | db.Database | None = None,
        strategy: str = "default",
        *,
        model: str | None = None,
        features: Any = None,
        feature_version: Any = None,
        max_age: Any = None,
        max_staleness: Any = OF_VIEW,
        output: str | None = None,
        model_name: str = "",
        model_version: str = "",
        signal: str = "signal",
        horizon: int = 1,
        calendar: str | None = None,
        code_version: str | None = None,
        spool: str | Path | Spool | bool | None = None,
        patience: float = PATIENCE_SECONDS,
        conninfo: str | None = None,
        dsn: str | None = None,
    ) -> None:
        database = db.Database.of(
            db.one_of(uri, conninfo, dsn),
            application="serving",
            setup=stored.register,
            translate=True,
        )
        super().__init__(
            database,
            SignalName(strategy, signal, horizon, model_name, model_version),
            calendar=calendar,
            code_version=code_version,
            spool=spool,
            patience=patience,
        )
        if model is not None and (model_name or model_version):
            raise ValueError(
                f"model {model!r} names a registered version; model_name and model_version label a "
                f"model that your own code loads: give one of both"
            )
        self._model_uri, self._output, self._features = model, output, features
        self._options = {
            "feature_version": feature_version,
            "max_age": max_age,
            "calendar": calendar,
            "max_staleness": max_staleness,
        }
        self._store_of_features = FeatureStore(database)
        self._loaded: LoadedModel | None = None
        self._loading = threading.Lock()
        _objects.add(self)

    def __repr__(self) -> str:
        return f"Serving({str(self.uri)!r}, {self.strategy!r})"

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def model(self) -> Any:
        """The loaded pyfunc model.

        Raises
        ------
        ModelUnavailable
            The object has no model, or there is no such version.

        Examples
        --------
        >>> live.model
        Traceback (most recent call last):
        drift.serving.models.ModelUnavailable: this Serving has no model: pass model="models:/..."
        """
        return self._served_model().model

    @property
    def model_version(self) -> str:
        """The version that serves: the one that was loaded, or the caller's label.

        Examples
        --------
        >>> live.model_version
        '7'
        """
        if self._model_uri is None:
            return self._signal.model_version
        return self._served_model().version

    def refresh(self) -> bool:
        """Load the version that the alias points at now; return whether it is another one.

        Predictions that run meanwhile are made, and recorded, with the version before.

        Raises
        ------
        ModelUnavailable
            The object has no model, or there is no such version: the one before stays.

        Examples
        --------
        >>> import mlflow, pandas as pd
        >>> from mlflow_timescale import ModelRegistry
        >>> mlflow.set_tracking_uri(uri)
        >>> def register(factor):
        ...     with mlflow.start_run() as run:
        ...         logged = mlflow.pyfunc.log_model(
        ...             name="model", python_model=lambda model_input: model_input * factor,
        ...             input_example=pd.DataFrame({"rsi_14": [61.2]}), pip_requirements=[])
        ...     return ModelRegistry(uri).register_model(
        ...         "rsi", source=logged.model_uri, run_id=run.info.run_id)
        >>> _ = register(0.5)
        >>> serving = Serving(uri, "rsi", model="models:/rsi/latest")
        >>> serving.refresh(), serving.model_version
        (True, '1')
        >>> _ = register(0.25)
        >>> serving.model_version, serving.refresh(), serving.model_version
        ('1', True, '2')
        """
        loaded = load_verified(self.database, self._required_model())
        before, self._loaded = self._loaded, loaded
        return before is None or before.version != loaded.version

    def predict(
        self,
        entities: str | Sequence[str],
        *,
        as_of: datetime | None = None,
        request_id: str | None = None,
        groups: Any = None,
    ) -> Any:
        """Read features, predict with the loaded version, and record all of it.

        A feature that has no value is NaN for the model, and None in the memory.

        Parameters
        ----------
        groups
            The group of each entity, for the monitor.

        Returns
        -------
        pandas.Series
            The predictions by entity, in the order of `entities`; `attrs["request_id"]` names the
            request.

        Raises
        ------
        ModelUnavailable
            The object has no model, there is no such version, or its signature names no columns
            and `features` was not given.
        UnknownFeature
            A feature was never written.
        InvalidTime
            `as_of` is naive.
        Contradiction
            The request id, or another output at this `as_of`, is recorded.

        Examples
        --------
        >>> import mlflow, pandas as pd
        >>> from mlflow_timescale import ModelRegistry
        >>> from mlflow_timescale.features import FeatureStore
        >>> mlflow.set_tracking_uri(uri)
        >>> opening = datetime(2024, 4, 18, 13, 30, tzinfo=timezone.utc)
        >>> features = {"rsi_14": 61.0}
        >>> FeatureStore(uri).write_features("AAPL", opening, features, ingest_time=opening)
        1
        >>> with mlflow.start_run() as run:
        ...     logged = mlflow.pyfunc.log_model(
        ...         name="model", python_model=lambda model_input: model_input / 100,
        ...         input_example=pd.DataFrame({"rsi_14": [61.2]}), pip_requirements=[])
        >>> _ = ModelRegistry(uri).register_model(
        ...     "rsi", source=logged.model_uri, run_id=run.info.run_id)
        >>> serving = Serving(uri, "rsi", model="models:/rsi/latest")
        >>> serving.predict(["AAPL", "MSFT"], as_of=close).to_dict()
        {'AAPL': 0.61, 'MSFT': nan}
        """
        begin = time.perf_counter()
        names = requests.entity_names(entities)
        served = self._served_model()
        features = self._features if self._features is not None else list(served.features)
        columns = selection.select(features, None).names if features else ()
        if not columns:
            raise ModelUnavailable(
                f"the signature of {served.uri} names no columns: pass features=[...]"
            )
        cells, moment = latest_cells(
            self._store_of_features, names, features, columns, as_of, self._options
        )
        given = model_input(served, cells, names)
        outputs = requests.read_outputs(picked(served.model.predict(given), self._output), names)
        signal, origin = self._named(served)
        request = Request(
            signal=signal,
            origin=origin,
            request_id=requests.check_request_id(request_id),
            entities=names,
            as_of=requests.decision_times(moment, names),
            outputs=outputs,
            cells=cells,
            source="store",
            reading=described({**self._options, "views": _views(features)}),
            groups=entity_groups(groups, names),
            latency_ms=(time.perf_counter() - begin) * 1000,
            calendar=self._calendar,
        )
        requests.refuse_repeated(names, request.as_of)
        receipt = self._store(request)
        signals = pandas_series(outputs, names, self._signal.signal)
        signals.attrs["request_id"] = receipt.request_id
        return signals

    def _labelled(self, model_version: str | None) -> tuple[SignalName, Origin]:
        if self._model_uri is None or model_version is not None:
            return super()._labelled(model_version)
        return self._named(self._served_model())

    def _named(self, served: LoadedModel) -> tuple[SignalName, Origin]:
        """The signal and origin of predictions of a loaded version."""
        signal = self._signal
        name = SignalName(
            signal.strategy_id, signal.signal, signal.horizon, served.name, served.version
        )
        return name, self._origin(served.uri, served.checksum)

    def _required_model(self) -> str:
        if self._model_uri is None:
            raise ModelUnavailable('this Serving has no model: pass model="models:/..."')
        return self._model_uri

    def _served_model(self) -> LoadedModel:
        """The loaded version; threads that come first wait for one of them to load it."""
        reference = self._required_model()
        if self._loaded is None:
            with self._loading:
                if self._loaded is None:
                    self._loaded = load_verified(self.database, reference)
        return self._loaded


def _views(features: Any) -> str | None:
    """The views among the features, whose limits hold too, such as "momentum/2"."""
    parts = features if isinstance(features, (list, tuple)) else [features]
    views = [f"{part.name}/{part.version}" for part in parts if isinstance(part, FeatureView)]
    return ", ".join(views) or None


_objects: WeakSet[Serving] = WeakSet()


def _after_fork() -> None:
    """Replace the locks: a thread that held one is not in the child."""
    for serving in list(_objects):
        serving._loading = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
