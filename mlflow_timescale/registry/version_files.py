"""Files of a version: what a path names, and what a version without a loadable model holds."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from mlflow_timescale.artifacts.locations import canonical, guess_type
from mlflow_timescale.common.errors import first_of
from mlflow_timescale.common.text import printable

REMOTE_TAG = "remote_artifact"
_REMOTE = re.compile(r"^(?!file:)[A-Za-z][A-Za-z0-9+.-]+:/")
_NOT_IN_KEYS = re.compile(r"[^\w\-. :/]")
_SHOWN = 10


class UnverifiedArtifact(UserWarning):
    """An artifact that is recorded by its location only: nothing can verify its content."""


def is_remote(path: str | Path) -> bool:
    """Whether a path is a URL, such as "s3://models/weights.pkl".

    >>> is_remote("s3://models/weights.pkl"), is_remote("models/weights.pkl")
    (True, False)
    """
    return bool(_REMOTE.match(str(path)))


def record_remote(client: MlflowClient, run_id: str, url: str, artifact_type: str | None) -> None:
    """Record the location of a remote file as a tag of a run, and warn that it has no checksum.

    The tag is "remote_artifact/<type>/<name>"; passwords and queries are left out of its value.
    """
    location = canonical(url)
    kind = artifact_type or guess_type(location)
    name = location.rpartition("/")[2]
    client.set_tag(run_id, _NOT_IN_KEYS.sub("_", f"{REMOTE_TAG}/{kind}/{name}"), location)
    warnings.warn(
        f"{printable(location)} is recorded by its location, without a checksum: no download and "
        f"no audit can verify it; log a local copy of the file to record its SHA-256",
        UnverifiedArtifact,
        stacklevel=3,
    )


def remote_files(client: MlflowClient, run_id: str | None) -> list[str]:
    """The locations that `record_remote` recorded for a run."""
    if not run_id:
        return []
    tags = client.get_run(run_id).data.tags
    return sorted(url for key, url in tags.items() if key.startswith(f"{REMOTE_TAG}/"))


def no_model(version: str, directory: str, remote: list[str]) -> MlflowException:
    """The error of `load_model` for a version whose files are no MLflow model."""
    root = Path(directory)
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    files = [f"{name} ({guess_type(name)})" for name in names]
    files += [f"{url} (not verified)" for url in remote]
    shown = first_of(files, _SHOWN) or "no files"
    return MlflowException(
        f"{version} is no MLflow model: it has no MLmodel file. It holds {shown}. "
        f"registry.download({version!r}) copies verified files to a folder; load them from there "
        f"with the library that wrote them. To use load_model, log the model with "
        f"mlflow.<flavor>.log_model",
        RESOURCE_DOES_NOT_EXIST,
    )
