"""Where a client of a tracking server may put and find artifacts.

MLflow's server requires that a version's source lies in the run or logged model that the request
names, on which its authorisation then requires a permission. It does so for local paths and for
`mlflow-artifacts:` only: it compares schemes with a list. The same bytes are reached by URIs of
ours, so the rule holds for them here. A client that reaches the database itself needs no rule: it
reads and writes every artifact.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.store.artifact.host_policy import is_tracking_server_process
from mlflow.utils.mlflow_tags import MLFLOW_ARTIFACT_LOCATION

from mlflow_timescale.artifacts.locations import CHECKED, IN_DATABASE, canonical, scheme

_ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"
_DESTINATION = "_MLFLOW_SERVER_ARTIFACT_DESTINATION"
_PROXIED = "mlflow-artifacts"
_PROXY_ROUTE = "/mlflow-artifacts/artifacts/"
_WORKSPACES = "workspaces"


def check_source(source: str, roots: Callable[[], Iterable[str | None]]) -> None:
    """In a server, refuse a source of ours outside of what the request names.

    Parameters
    ----------
    source
        Of a model version. Raises MlflowException.
    roots
        Returns the artifact locations of the run and the logged model that the request names.
    """
    if not is_tracking_server_process() or not _is_ours(source):
        return
    place = _place(source)
    if not any(_is_inside(place, _place(root)) for root in roots() if root):
        raise MlflowException(
            f"Invalid model version source: '{source}'. The run_id or model_id request parameter "
            f"must identify the run or the logged model that contains the source.",
            INVALID_PARAMETER_VALUE,
        )


def check_location(location: str | None, taken: Callable[[], Iterable[str]]) -> None:
    """In a server, refuse a location for a new experiment in the artifacts of another one.

    Parameters
    ----------
    location
        As the request names it. Raises MlflowException where uploads would go into a run, a model
        or a trace of another experiment, or into the place of an experiment to come.
    taken
        Returns the locations of all experiments. Two experiments may share one: each run and model
        has a place of its own in it.
    """
    if not location or not is_tracking_server_process() or not _is_served(location):
        return
    place = _place(location)
    others = {_place(other) for other in taken()} - {place}
    if _is_numbered(place) or any(_is_inside(place, other) for other in others):
        raise MlflowException(
            f"Invalid artifact_location: '{location}' is in the artifacts of another experiment, "
            f"or will be. Choose another place, or leave it out.",
            INVALID_PARAMETER_VALUE,
        )


def check_trace_tag(key: str) -> None:
    """In a server, refuse to move the place of a trace's data. Raises MlflowException."""
    if is_tracking_server_process() and key == MLFLOW_ARTIFACT_LOCATION:
        raise MlflowException(
            f"The server sets the tag {key}; it cannot be changed.", INVALID_PARAMETER_VALUE
        )


def _is_ours(uri: str) -> bool:
    return scheme(uri) == IN_DATABASE or scheme(uri).startswith(CHECKED)


def _is_served(location: str) -> bool:
    """Whether a location is of ours, or leads to the server's own destination."""
    return _is_ours(location) or _proxied_path(location) is not None


def _place(uri: str) -> str:
    """A location in canonical form; of a proxied one, where the server stores it."""
    inner = uri[len(CHECKED) :] if scheme(uri).startswith(CHECKED) else uri
    path = _proxied_path(inner)
    destination = os.environ.get(_DESTINATION)
    if path is not None and destination:
        inner = f"{canonical(destination)}/{path}"
    place = canonical(inner)
    head, colon, rest = place.partition(":")
    parts = [part for part in rest.split("/") if part != "."]
    if ".." in parts:
        raise MlflowException(f"invalid artifact location: {uri!r}", INVALID_PARAMETER_VALUE)
    return head + colon + "/".join(parts)


def _proxied_path(uri: str) -> str | None:
    """The path of a URI that a tracking server resolves to its destination; None of others."""
    parts = urlsplit(uri)
    if parts.scheme == _PROXIED:
        return parts.path.lstrip("/")
    if parts.scheme in ("http", "https") and _PROXY_ROUTE in parts.path:
        return parts.path.partition(_PROXY_ROUTE)[2]
    return None


def _is_inside(place: str, root: str) -> bool:
    return place == root or place.startswith(root.rstrip("/") + "/")


def _is_numbered(place: str) -> bool:
    """Whether a place is, or will be, that of the experiment with a number, or of a workspace."""
    roots = {f"{IN_DATABASE}:/", os.environ.get(_ROOT, ""), os.environ.get(_DESTINATION, "")}
    for root in filter(None, roots):
        if _is_inside(place, base := _place(root)):
            first = place[len(base) :].lstrip("/").partition("/")[0]
            if first.isdigit() or first == _WORKSPACES:
                return True
    return False
