"""The steps of a registration: the model, its experiment, a run, and a version with its number."""

from __future__ import annotations

import re
import time

import psycopg
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST

from mlflow_timescale.artifacts.databases import connection
from mlflow_timescale.db import Connection, load
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.registry.history import active_workspace

_queries = load("registry")
_OF_RUN = re.compile(r"runs:/+(?P<run>[0-9a-f]{32})/(?P<name>[^/]+)/?")


def ensure_model(client: MlflowClient, name: str) -> None:
    """Create the registered model unless it exists."""
    try:
        client.create_registered_model(name)
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def create_run(client: MlflowClient, name: str) -> str:
    """Create a finished run in the model's experiment; return its id."""
    from mlflow.tracking.context.registry import resolve_tags

    run = client.create_run(_experiment(client, name), tags=resolve_tags(), run_name=name)
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def _experiment(client: MlflowClient, name: str) -> str:
    """The id of the experiment of that name, which is created if it does not exist."""
    # Another process may create it between the look-up and the creation: then look it up again.
    for _attempt in range(2):
        if experiment := client.get_experiment_by_name(name):
            return str(experiment.experiment_id)
        try:
            return str(client.create_experiment(name))
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    raise MlflowException(
        f"experiment {name} exists but cannot be read; if it was deleted, restore it: mlflow "
        f"experiments restore",
        RESOURCE_DOES_NOT_EXIST,
    )


def resolved_source(client: MlflowClient, source: str) -> str:
    """The source of a version: "runs:/RUN/NAME" of a logged model becomes "models:/m-...".

    A model that was logged by name is no artifact of its run. `mlflow.register_model` resolves the
    URI in the same way: of several models of one name, the one at the greatest step counts.
    """
    match = _OF_RUN.fullmatch(source)
    if match is None:
        return source
    try:
        outputs = client.get_run(match["run"]).outputs
    except MlflowException as exc:
        if exc.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return source  # a run of another tracking server
        raise
    models = sorted(outputs.model_outputs if outputs else [], key=lambda output: output.step or 0)
    for output in reversed(models):
        if client.get_logged_model(output.model_id).name == match["name"]:
            return f"models:/{output.model_id}"
    return source


def create_version(
    uri: DatabaseURI,
    client: MlflowClient,
    name: str,
    version: int | None,
    source: str,
    run_id: str,
    description: str | None,
) -> int:
    """Create a version, by default under the next number; return the number.

    Raises ValueError for a number below 1, MlflowException for one that exists.
    """
    if version is None:
        created = client.create_model_version(name, source, run_id, description=description)
        return int(created.version)
    with connection(uri) as conn:
        # The lock: the store counts up from the greatest number under the same one.
        values = {"name": name, "workspace": active_workspace()}
        conn.execute(_queries.serialize_versions, values)
        _insert_version(conn, name, version, source, run_id, description)
        return version


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
