"""What the features looked like in the training set of a registered version, where it can be read.

The run of the version must have logged a snapshot of the feature store as a dataset
(`mlflow.log_input(snapshot.to_mlflow())`), and the job must be able to read its files. Only sources
of this type, and no web addresses, are opened: a run names what its author likes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlflow_timescale.common import logs

from .metrics import psi

logger = logs.logger(__name__)
SOURCE = "feature_snapshot"
WEB = ("http:", "https:", "ftp:")


def training_references(
    tracking_uri: str | None, model: str, version: str, bins: int
) -> Mapping[str, psi.Reference]:
    """The distribution of each feature in the training snapshot, by name; empty without one.

    Never raises: a monitor without a readable snapshot learns from its first sessions.
    """
    if tracking_uri is None or not model or not version:
        return {}
    try:
        snapshot = _snapshot(tracking_uri, model, version)
        return {} if snapshot is None else _fitted(snapshot, bins)
    except Exception as exc:  # of MLflow, of a file system, of Parquet
        logger.info("the training snapshot of %s/%s cannot be read: %s", model, version, exc)
        return {}


def _snapshot(tracking_uri: str, model: str, version: str) -> Any:
    from mlflow import MlflowClient
    from mlflow.data import get_source

    registry = os.environ.get("MLFLOW_REGISTRY_URI")
    client = MlflowClient(tracking_uri=tracking_uri, registry_uri=registry)
    run_id = client.get_model_version(model, version.removeprefix("v")).run_id
    if not run_id:
        return None
    for given in client.get_run(run_id).inputs.dataset_inputs:
        if given.dataset.source_type == SOURCE:
            source = get_source(given.dataset)
            if not source.url.startswith(WEB):
                return source.load()
    return None


def _fitted(snapshot: Any, bins: int) -> dict[str, psi.Reference]:
    frame = snapshot.to_pandas(["as_of", *snapshot.feature_names])
    days = frame["as_of"].dt.floor("D").to_numpy()
    numeric = frame[snapshot.feature_names].select_dtypes("number")
    return {
        str(name): psi.fit(np.asarray(numeric[name], dtype=np.float64), bins, days=days)
        for name in numeric.columns
    }
