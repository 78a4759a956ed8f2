"""From an artifact URI to its repository: the database, and the rules of a tracking server."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import (
    get_artifact_repository,
    get_registered_artifact_repositories,
)
from mlflow.store.artifact.host_policy import (
    host_addressed_uri_targets,
    is_tracking_server_process,
    validate_artifact_uri_host,
)

from mlflow_timescale.artifacts import checked
from mlflow_timescale.artifacts.databases import database_of, need_database
from mlflow_timescale.artifacts.in_database import InDatabaseRepository
from mlflow_timescale.artifacts.locations import CHECKED, IN_DATABASE, canonical, inner_uri, scheme
from mlflow_timescale.artifacts.proxied import ProxiedRepository, behind_proxy
from mlflow_timescale.artifacts.spooling import with_spool
from mlflow_timescale.common.schemes import is_ours
from mlflow_timescale.db.uri import DatabaseURI

_ROOTS = ("_MLFLOW_SERVER_ARTIFACT_ROOT", "_MLFLOW_SERVER_ARTIFACT_DESTINATION")


def in_database(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> ArtifactRepository:
    """The repository of `timescaledb-artifacts:`.

    A client that reaches only the tracking server uses its proxy, if the server's artifacts
    destination is the database; `mlflow-timescale server` sets that.
    """
    if database := database_of(tracking_uri, registry_uri):
        return with_spool(InDatabaseRepository(artifact_uri, database, tracking_uri, registry_uri))
    if tracking_uri and tracking_uri.startswith(("http:", "https:")):
        path = canonical(artifact_uri).removeprefix(f"{IN_DATABASE}:").lstrip("/")
        return get_artifact_repository(f"mlflow-artifacts:/{path}", tracking_uri, registry_uri)
    database = need_database(artifact_uri, tracking_uri, registry_uri)
    return InDatabaseRepository(artifact_uri, database, tracking_uri, registry_uri)


def checked_repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> ArtifactRepository:
    """The repository of `sha256+<scheme>:`."""
    inner = inner_uri(artifact_uri)
    repository = get_registered_artifact_repositories().get(scheme(inner))
    if repository is None or scheme(inner).startswith((CHECKED, IN_DATABASE)):
        raise MlflowException(
            f"cannot wrap {scheme(inner)!r}: use {CHECKED}<scheme> with one of MLflow's artifact "
            f"repositories ({IN_DATABASE}: checks by itself)",
            INVALID_PARAMETER_VALUE,
        )
    if is_tracking_server_process():
        _enforce_server_policy(inner)
    database = need_database(artifact_uri, tracking_uri, registry_uri)
    opened = repository(inner, tracking_uri=tracking_uri, registry_uri=registry_uri)
    return with_spool(checked.wrap(opened, artifact_uri, database, tracking_uri, registry_uri))


def proxied_repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> ArtifactRepository:
    """The repository of `mlflow-artifacts:`, through the server or on its database."""
    if is_ours(tracking_uri or mlflow.get_tracking_uri()):
        database = need_database(artifact_uri, tracking_uri, registry_uri)
        return behind_proxy(artifact_uri, database, open_stored)
    return ProxiedRepository(artifact_uri, tracking_uri, registry_uri)


def _enforce_server_policy(inner: str) -> None:
    """Apply MLflow's rules to the wrapped URI; MLflow itself sees only our scheme.

    A server must not connect to a host that a client named (GHSA-mr9f-g8qf-4w4j), or open a
    directory outside of its artifact roots.
    """
    roots = [inner_uri(os.environ[name]) for name in _ROOTS if os.environ.get(name)]
    if scheme(inner) in ("", "file"):
        _refuse_foreign_directory(inner, roots)
        return
    trusted = frozenset().union(*(host_addressed_uri_targets(root) or () for root in roots))
    if not (host_addressed_uri_targets(inner) or frozenset()) & trusted:
        validate_artifact_uri_host(inner)


def _refuse_foreign_directory(inner: str, roots: list[str]) -> None:
    directory = _directory(inner)
    allowed = [_directory(root) for root in roots if scheme(root) in ("", "file")]
    if not any(directory.is_relative_to(root) for root in allowed):
        raise MlflowException(
            f"the tracking server does not use {CHECKED}{canonical(inner)}: it is not below its "
            f"--default-artifact-root or --artifacts-destination",
            INVALID_PARAMETER_VALUE,
        )


def _directory(uri: str) -> Path:
    return Path(canonical(uri).removeprefix("file://")).resolve()


@lru_cache(maxsize=256)
def open_stored(
    root: str, database: DatabaseURI
) -> InDatabaseRepository | checked.CheckedRepository:
    """The repository of a location in the ledger, for reading."""
    if scheme(root) == IN_DATABASE:
        return InDatabaseRepository(root, database, database.url)
    repository = get_registered_artifact_repositories()[scheme(root)]
    inner = repository(root, tracking_uri=None, registry_uri=None)
    return checked.wrap(inner, root, database, database.url)
