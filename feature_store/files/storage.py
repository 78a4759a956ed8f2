"""Folders on any file system that fsspec knows, and Parquet files in them with their hashes."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from mlflow_timescale.common.frames import check_parquet, decoded_limit
from mlflow_timescale.db.masking import without_secrets

from ..errors import FeatureError

_ROW_GROUP = 131_072
_LONGEST = 256 << 20  # bytes of a manifest
# What reading a JSON text from elsewhere raises, where it is not what a writer leaves.
UNREADABLE = (KeyError, TypeError, ValueError, OverflowError, RecursionError)


class StorageError(FeatureError):
    """A folder that cannot be read or written as asked."""


class CorruptFile(StorageError):
    """A file that is missing, or is not what was written."""


class MissingFile(CorruptFile):
    """A file that is not there."""


@dataclass(frozen=True)
class DataFile:
    """A Parquet file: its path inside the folder, and what it must contain.

    Raises ValueError for a path that leads out of the folder, and TypeError for other types:
    manifests come from elsewhere.
    """

    path: str
    rows: int
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        numbers = (self.rows, self.bytes)
        if not isinstance(self.path, str) or not isinstance(self.sha256, str):
            raise TypeError(f"file {self.path!r} has no name or no hash")
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise TypeError(f"file {self.path!r} has no number of rows or bytes: {numbers}")
        names = self.path.split("/")
        if "://" in self.path or "\x00" in self.path or {"", ".", ".."} & {*names}:
            raise ValueError(f"file {self.path!r} is outside of the folder")

    def as_dict(self) -> dict[str, Any]:
        """For a manifest."""
        return asdict(self)


class Folder:
    """A folder: a local path, or a URL such as s3://bucket/name (with the driver that it needs)."""

    def __init__(self, url: str | Path) -> None:
        self.url = str(url)
        try:
            self.fs, path = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as exc:
            raise StorageError(f"cannot open {self.url}: {exc}") from exc
        self.path = path.rstrip("/")

    def __str__(self) -> str:
        """The URL without secrets."""
        return without_secrets(self.url)

    @property
    def is_local(self) -> bool:
        """Whether directories can be renamed at once."""
        return isinstance(self.fs, LocalFileSystem)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return str(self.path).rpartition("/")[2]

    def at(self, path: str) -> str:
        """The whole path of a file in the folder."""
        return f"{self.path}/{path}"

    def exists(self, path: str) -> bool:
        """Whether a file exists in the store; a cache does not count."""
        self.fs.invalidate_cache()
        return bool(self.fs.exists(self.at(path)))

    def is_empty(self) -> bool:
        """Whether nothing is there."""
        self.fs.invalidate_cache()
        return not self.fs.exists(self.path) or not self.fs.find(self.path)

    def files(self, below: str) -> set[str]:
        """All files below a directory of the folder, as paths inside the folder."""
        self.fs.invalidate_cache()
        if not self.fs.exists(self.at(below)):
            return set()
        return {path[len(self.path) + 1 :] for path in self.fs.find(self.at(below))}

    def sibling(self) -> Folder:
        """A hidden folder beside this one, with a unique name."""
        parent, _, name = self.path.rpartition("/")
        other = Folder(self.url)
        other.path = f"{parent}/.{name}.{uuid.uuid4().hex}.partial"
        return other

    def write(self, path: str, data: bytes) -> None:
        """Write a file, over what is there."""
        self.fs.makedirs(self.at(path).rpartition("/")[0], exist_ok=True)
        self.fs.pipe_file(self.at(path), data)

    def create(self, path: str, data: bytes) -> None:
        """Write a file that must not exist; raises FileExistsError."""
        if self.exists(path):
            raise FileExistsError(self.at(path))
        self.fs.makedirs(self.at(path).rpartition("/")[0], exist_ok=True)
        try:
            self.fs.pipe_file(self.at(path), data, mode="create")
        except (NotImplementedError, TypeError, ValueError):  # a store that cannot do it at once
            self.fs.pipe_file(self.at(path), data)

    def replace(self, path: str, data: bytes) -> None:
        """Change a file so that a reader sees the old or the new one whole."""
        if not self.is_local:  # object stores show an object when it is complete
            return self.write(path, data)
        draft = f"{path}.{uuid.uuid4().hex}.partial"
        self.write(draft, data)
        Path(self.at(draft)).replace(self.at(path))
        return None

    def read(self, path: str, longest: int = _LONGEST) -> bytes:
        """A file's bytes; raises CorruptFile where it is missing, or is not what a writer leaves.

        A longer file, a link out of the folder, a pipe and a device are not opened: what is read
        may come from elsewhere.
        """
        if self.is_local:
            self._check_place(Path(self.at(path)), path)
        try:
            size = self.fs.size(self.at(path))
            if size is not None and size > longest:
                raise CorruptFile(
                    f"{self.url}: file {path} has {size:,} bytes, {longest:,} are expected"
                )
            data: bytes = self.fs.cat_file(self.at(path))
        except FileNotFoundError as exc:
            raise MissingFile(f"{self.url}: file {path} is missing") from exc
        return data

    def _check_place(self, place: Path, path: str) -> None:
        if (place.exists() or place.is_symlink()) and not place.is_file():
            raise CorruptFile(f"{self.url}: {path} is no file")
        if not Path(os.path.realpath(place)).is_relative_to(os.path.realpath(self.path)):
            raise CorruptFile(f"{self.url}: file {path} is a link out of the folder")

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files, where they are still there."""
        for path in paths:
            if self.exists(path):
                self.fs.rm_file(self.at(path))

    def remove_all(self) -> None:
        """Remove the folder with all that is in it."""
        if self.fs.exists(self.path):
            self.fs.rm(self.path, recursive=True)

    def write_parquet(self, path: str, table: pa.Table) -> DataFile:
        """Write a Parquet file."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", row_group_size=_ROW_GROUP)
        data = sink.getvalue().to_pybytes()
        self.write(path, data)
        return DataFile(path, len(table), len(data), hashlib.sha256(data).hexdigest())

    def read_parquet(
        self, file: DataFile, columns: list[str] | None = None, *, filters: Any = None
    ) -> pa.Table:
        """Read a Parquet file once, check it, and return its table, or the rows of `filters`.

        Raises CorruptFile, naming the file, if it is missing or not as it was written, and
        DecodesToTooMuch for a file whose content is far larger than the file.
        """
        data = self._read_checked(file)
        source = reader_of(data)
        name = f"{self.url}: file {file.path}"
        try:
            check_parquet(source, name, len(data))
            source.seek(0)
            return pq.read_table(source, columns=columns, partitioning=None, filters=filters)
        except (pa.ArrowException, OSError) as exc:
            raise CorruptFile(f"{name} cannot be read: {exc}") from exc

    def check(self, file: DataFile) -> None:
        """Raise CorruptFile unless the file is there as it was written."""
        self._read_checked(file)

    def _read_checked(self, file: DataFile) -> bytes:
        data = self.read(file.path, min(max(_LONGEST, file.bytes), decoded_limit(file.bytes)))
        found = hashlib.sha256(data).hexdigest()
        if found != file.sha256:
            raise CorruptFile(
                f"{self.url}: file {file.path} has SHA-256 {found} ({len(data)} bytes), but "
                f"{file.sha256} ({file.bytes} bytes) was written: it was damaged or changed"
            )
        return data


def reader_of(data: bytes) -> pa.BufferReader:
    """A reader over a copy of bytes that Arrow owns.

    Arrow's threads release what they read a moment after the table is complete. If they then hold
    Python's bytes while the interpreter ends, they wait for the GIL, and the process aborts after
    all its work is done (https://github.com/apache/arrow/issues/34314).
    """
    buffer = pa.allocate_buffer(len(data))
    pa.FixedSizeBufferWriter(buffer).write(data)
    return pa.BufferReader(buffer)
