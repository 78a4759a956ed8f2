"""The artifacts of a run, in a folder or a repository of MLflow. Files are only read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_timescale.common.frames import DecodesToTooMuch, decoded_limit
from mlflow_timescale.common.text import one_line

from .cells import Unusable

__all__ = ["Place", "files_below"]

_DEEPEST = 2  # levels of folders that are searched for tables


@dataclass(frozen=True)
class Place:
    """The artifacts of a run.

    Attributes
    ----------
    location
        A folder, or the URI of a repository.
    tracking_uri
        The database that `timescaledb-artifacts:` locations belong to.
    """

    location: Path | str
    tracking_uri: str | None = None

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if it does not exist.

        Raises Unusable if it cannot be read, DecodesToTooMuch if it is too large.
        """
        if isinstance(self.location, Path):
            return _content(self.location / name)
        repository = self._repository()
        try:
            if not any(file.path == name for file in self._listed(_parent(name))):
                return None
            if hasattr(repository, "read"):
                return bytes(repository.read(name))
            with tempfile.TemporaryDirectory() as scratch:
                return _content(Path(repository.download_artifacts(name, scratch)))
        except OSError as exc:
            raise Unusable(f"{name} cannot be read: {exc}") from exc

    def names(self) -> list[str]:
        """The paths of the files in the upper levels of folders."""
        if isinstance(self.location, Path):
            return sorted(files_below(self.location))
        return sorted(self._walked("", _DEEPEST))

    def _walked(self, folder: str, levels: int) -> Iterator[str]:
        for file in self._listed(folder):
            if not file.is_dir:
                yield str(file.path)
            elif levels > 1:
                yield from self._walked(file.path, levels - 1)

    def _listed(self, folder: str) -> list[Any]:
        """The entries of a folder. Raises Unusable if the repository cannot be reached."""
        try:
            return list(self._repository().list_artifacts(folder or None))
        except Exception as exc:  # each repository has a library with errors of its own
            reason = one_line(exc, 200)
            raise Unusable(f"its artifacts at {self.location} cannot be listed: {reason}") from exc

    def _repository(self) -> Any:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        try:
            return get_artifact_repository(str(self.location), tracking_uri=self.tracking_uri)
        except Exception as exc:  # a scheme without its library, a server that does not exist
            reason = one_line(exc, 200)
            raise Unusable(f"its artifacts at {self.location} cannot be opened: {reason}") from exc


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _content(path: Path) -> bytes | None:
    """The bytes of a regular file; None for others: reading a pipe would never end."""
    if not path.is_file():
        return None
    size = path.stat().st_size
    if size > decoded_limit(size):
        raise DecodesToTooMuch(f"{path.name} has {size:,} bytes: more than is read")
    try:
        return path.read_bytes()
    except OSError as exc:
        raise Unusable(f"{path.name} cannot be read: {exc.strerror or exc}") from exc


def files_below(root: Path, folder: str = "", levels: int = _DEEPEST) -> Iterator[str]:
    """The files in the upper folders, by their paths in `root`."""
    here = root / folder
    for path in sorted(here.iterdir()) if here.is_dir() else ():
        name = f"{folder}/{path.name}".lstrip("/")
        if path.is_file():
            yield name
        elif levels > 1 and path.is_dir():
            yield from files_below(root, name, levels - 1)
