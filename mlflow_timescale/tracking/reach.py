"""A check before calls that cannot wait in a spool: the database must answer in time.

Without it MLflow logs a traceback of 130 lines for a failed connection, and a call waits minutes
for a server that hangs.
"""

from __future__ import annotations

from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from mlflow_timescale.db import connect
from mlflow_timescale.db.errors import ConnectionFailed
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.schema import no_spool_for_it
from mlflow_timescale.spool.patience import Patience, TooSlow
from mlflow_timescale.spool.places import patience_of, spool_of

_patience = Patience()
# Methods of the tracking store and of the registry that the spool cannot serve. The others wait in
# it, or need no database.
CANNOT_WAIT = frozenset(
    {
        "create_experiment",
        "create_model_version",
        "create_registered_model",
        "delete_experiment",
        "delete_experiment_tag",
        "delete_logged_model",
        "delete_model_version",
        "delete_model_version_tag",
        "delete_registered_model",
        "delete_registered_model_alias",
        "delete_registered_model_tag",
        "delete_run",
        "delete_traces",
        "get_experiment_by_name",
        "get_latest_versions",
        "get_model_version",
        "get_model_version_by_alias",
        "get_model_version_download_uri",
        "get_registered_model",
        "rename_experiment",
        "rename_registered_model",
        "restore_experiment",
        "restore_run",
        "search_experiments",
        "search_logged_models",
        "search_model_versions",
        "search_registered_models",
        "search_runs",
        "search_traces",
        "set_experiment_tag",
        "set_model_version_tag",
        "set_registered_model_alias",
        "set_registered_model_tag",
        "transition_model_version_stage",
        "update_model_version",
        "update_registered_model",
    }
)


def require_answer(store: Any, method: str) -> None:
    """Raise MlflowException in one line if a call needs a database that is away.

    Stores without a spool are not checked: their calls wait or fail like those of MLflow.
    """
    uri = getattr(store, "db_uri", None)
    if method not in CANNOT_WAIT or not uri:
        return
    parsed = DatabaseURI.parse(uri)
    if spool_of(parsed) is None:
        return
    seconds = patience_of(parsed)
    try:
        _patience.wait(lambda: connect(parsed, connect_timeout=seconds).close(), seconds)
    except ConnectionFailed as exc:
        raise MlflowException(no_spool_for_it(exc), TEMPORARILY_UNAVAILABLE) from exc
    except TooSlow as exc:
        outage = ConnectionFailed(str(exc))  # what callers examine
        raise MlflowException(no_spool_for_it(exc), TEMPORARILY_UNAVAILABLE) from outage
