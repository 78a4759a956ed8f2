"""The artifacts of a run that wait in a spool, as lists and downloads see them."""

from __future__ import annotations

import json
import posixpath
import shutil
from pathlib import Path
from typing import NamedTuple

from mlflow.entities import FileInfo

from mlflow_timescale.artifacts import spooled
from mlflow_timescale.artifacts.hashing import hash_file
from mlflow_timescale.artifacts.refusals import ArtifactMismatch
from mlflow_timescale.spool import Record, Spool

# Bytes that the records of files, and of new runs and models, contain.
_ARTIFACT, _CREATION = b'"kind": "artifact"', b'["create_'
# The kind and methods of the records that create a run or model; see tracking.spooled.
_CREATES = ("tracking", ("create_run", "create_logged_model"))


class WaitingFile(NamedTuple):
    """A file of a spool, and the SHA-256 that it had when it was logged."""

    file: Path
    sha256: str


class WaitingFiles(NamedTuple):
    """The files that wait below an artifact URI, by path.

    `is_new` is True if their run waits too, so that the database has no artifacts of it.
    """

    files: dict[str, WaitingFile]
    is_new: bool

    @classmethod
    def of(cls, spool: Spool, artifact_uri: str) -> WaitingFiles:
        """The waiting files below an artifact URI, which may be a folder of a run's.

        The last file of a path counts.
        """
        files: dict[str, WaitingFile] = {}
        for record in spool.waiting(_ARTIFACT):
            if record.kind == spooled.KIND and record.file is not None:
                uri, path, sha256 = spooled.content(record)
                inner = _below(artifact_uri, f"{uri}/{path}")
                if inner:
                    files[inner] = WaitingFile(record.file, sha256)
        is_new = any(_creates(record, artifact_uri) for record in spool.waiting(_CREATION))
        return cls(files, is_new)

    def below(self, path: str | None) -> dict[str, WaitingFile]:
        """The file at a path, or the files below it.

        >>> waiting = WaitingFiles({"a/b": WaitingFile(Path("1"), ""), "c": None}, is_new=True)
        >>> [*waiting.below("a")], [*waiting.below("c")], [*waiting.below(None)]
        (['a/b'], ['c'], ['a/b', 'c'])
        """
        prefix = f"{path}/" if path else ""
        return {
            name: file
            for name, file in self.files.items()
            if name == path or name.startswith(prefix)
        }

    def listed(self, path: str | None, stored: list[FileInfo]) -> list[FileInfo]:
        """The entries of a folder: those that are stored, and those that wait."""
        entries = {info.path: info for info in stored}
        for name, waiting in self.below(path).items():
            if name == path:
                continue
            head, *rest = posixpath.relpath(name, path or ".").split("/")
            entry = posixpath.join(path or "", head)
            size = None if rest else waiting.file.stat().st_size
            entries[entry] = FileInfo(entry, bool(rest), size)
        return [entries[name] for name in sorted(entries)]

    def copy(self, path: str | None, folder: Path) -> str:
        """Copy the files of a path into a folder; return the copy's path.

        Raises ArtifactMismatch for a file that no longer has its SHA-256.
        """
        for name, (file, sha256) in self.below(path).items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            if hash_file(target).sha256 != sha256:
                target.unlink()
                raise ArtifactMismatch(
                    f"artifact {name} in the spool is not what was logged: {file} no longer has "
                    f"the SHA-256 {sha256}"
                )
        return str(folder / (path or ""))


def _creates(record: Record, artifact_uri: str) -> bool:
    kind, methods = _CREATES
    if record.kind != kind:
        return False
    method, _, _, arguments, _ = json.loads(record.body.partition(b"\n")[0])
    return method in methods and _below(arguments[-1], artifact_uri) is not None


def _below(root: str, uri: str) -> str | None:
    """The path of a URI below another one; None if it is elsewhere.

    >>> _below("s3://b/1", "s3://b/1/a/b"), _below("s3://b/1", "s3://b/1"), _below("s3://b/1", "s3://b/12")
    ('a/b', '', None)
    """
    root = root.rstrip("/")
    if uri == root:
        return ""
    return uri.removeprefix(f"{root}/") if uri.startswith(f"{root}/") else None
