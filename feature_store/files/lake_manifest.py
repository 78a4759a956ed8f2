"""The description of a lake: `lake.json`, the last file that an export writes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime

from ..errors import FeatureError
from .storage import UNREADABLE, DataFile

FILE = "lake.json"
FORMAT = 1


class LakeError(FeatureError):
    """A lake that cannot be written, read or trusted."""


@dataclass(frozen=True)
class LakeFile:
    """A Parquet file of the lake, and the partition that it belongs to."""

    bucket: int
    year: int
    file: DataFile


@dataclass(frozen=True)
class LakeManifest:
    """Which files count. The watermark `written_by` is settled: no write up to it is missing."""

    buckets: int
    features: list[str] | None
    origin: str | None = None
    written_by: str = "-infinity"
    generation: int = 0
    heads: DataFile | None = None
    files: list[LakeFile] = field(default_factory=list)
    versions: dict[str, list[int]] = field(default_factory=dict)
    format: int = FORMAT

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: bytes, where: str) -> LakeManifest:
        """Read the text of the file; raises LakeError for anything else."""
        try:
            plain = json.loads(text)
            if plain["format"] != FORMAT:
                raise LakeError(f"{where} has format {plain['format']}; upgrade mlflow-timescale")
            heads = plain["heads"]
            plain["heads"] = None if heads is None else DataFile(**heads)
            plain["files"] = [
                LakeFile(entry["bucket"], entry["year"], DataFile(**entry["file"]))
                for entry in plain["files"]
            ]
            return _checked(cls(**plain))
        except (*UNREADABLE, AttributeError) as exc:
            raise LakeError(f"{where} has a damaged {FILE}: {exc!r}") from exc


def _checked(manifest: LakeManifest) -> LakeManifest:
    """The manifest; raises TypeError or ValueError for fields that no export writes."""
    if type(manifest.buckets) is not int or manifest.buckets < 1:
        raise ValueError(f"buckets is {manifest.buckets!r}")
    if not all(type(n) is int for entry in manifest.files for n in (entry.bucket, entry.year)):
        raise TypeError("a file has no bucket or year")
    for name, versions in manifest.versions.items():
        if not isinstance(versions, list) or not all(type(version) is int for version in versions):
            raise TypeError(f"feature {name!r} has no list of versions")
    if manifest.written_by != LakeManifest.written_by:
        datetime.fromisoformat(manifest.written_by)
    return manifest
