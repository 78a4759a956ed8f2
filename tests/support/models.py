"""Models of Python code, registered as users register them."""

from __future__ import annotations

import mlflow
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, Schema

from mlflow_timescale import ModelRegistry
from mlflow_timescale.db.uri import DatabaseURI


def register(
    uri: DatabaseURI, name: str, model: PythonModel, *columns: str, kind: str = "double"
) -> int:
    """Log a model that takes these columns, register it, and return its version."""
    mlflow.set_tracking_uri(uri.url)
    signature = ModelSignature(Schema([ColSpec(kind, column) for column in columns]))
    with mlflow.start_run() as run:
        logged = mlflow.pyfunc.log_model(
            name="model", python_model=model, signature=signature, pip_requirements=[]
        )
    registry = ModelRegistry(uri)
    registry.register_model(name, source=logged.model_uri, run_id=run.info.run_id)
    info = registry.get_model(name)
    assert info is not None
    return info.version
