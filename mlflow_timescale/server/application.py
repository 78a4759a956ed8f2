"""MLflow's application, as `mlflow server --app-name timescale` builds it in every worker."""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint, entry_points
from types import FunctionType
from typing import Any

from mlflow_timescale.common.settings import CLIENT_TIMEOUT
from mlflow_timescale.server.launch import WRAPPED


def create_app() -> Any:
    """MLflow's application behind our middleware; MLflow's own under gunicorn and waitress.

    The variable WRAPPED names another application of MLflow, such as `basic-auth`. Raises
    MlflowException for a name that no package has.
    """
    from mlflow.environment_variables import _MLFLOW_SGI_NAME

    if _MLFLOW_SGI_NAME.get() != "uvicorn":
        return _wrapped("mlflow.server:app")
    from mlflow.server.constants import BACKEND_STORE_URI_ENV_VAR

    from mlflow_timescale.server import alert_sender
    from mlflow_timescale.server.bodies import LengthRequired
    from mlflow_timescale.server.bounds import BoundedExit
    from mlflow_timescale.server.prefix import ArtifactsUnderPrefix
    from mlflow_timescale.server.requests import guard
    from mlflow_timescale.server.silence import WholeRequests

    app = _wrapped("mlflow.server.fastapi_app:app")
    guard(EntryPoint("", "mlflow.server:app", "mlflow.app").load())
    routes = getattr(app, "routes", [])
    alert_sender.start(os.environ.get(BACKEND_STORE_URI_ENV_VAR))
    app = ArtifactsUnderPrefix(LengthRequired(app, routes), _static_prefix())
    return BoundedExit(WholeRequests(app, CLIENT_TIMEOUT.get()))


def _wrapped(default: str) -> Any:
    """The application that the environment names, called if it is a factory, as MLflow does."""
    name = os.environ.get(WRAPPED)
    points = entry_points(group="mlflow.app")
    if not name:
        app = EntryPoint("", default, "mlflow.app").load()
    elif name in points.names:
        app = points[name].load()
    else:
        from mlflow.exceptions import MlflowException

        raise MlflowException(
            f"no package has an application named {name!r}; there are {sorted(points.names)}"
        )
    return app() if isinstance(app, FunctionType) else app


def _static_prefix() -> str:
    from mlflow.server.handlers import STATIC_PREFIX_ENV_VAR

    return os.environ.get(STATIC_PREFIX_ENV_VAR, "").rstrip("/")
