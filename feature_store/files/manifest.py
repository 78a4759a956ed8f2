"""The description of a snapshot: `manifest.json`, the last file that is written."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mlflow_timescale.common.time import Duration, parse_duration

from ..errors import FeatureError
from .storage import UNREADABLE, DataFile

FILE = "manifest.json"
FORMAT = 1
_LIBRARIES = ("mlflow-timescale", "mlflow", "numpy", "pandas", "pyarrow", "polars")


class SnapshotError(FeatureError):
    """A snapshot that cannot be written, read or trusted."""


class ContentMismatch(SnapshotError):
    """Content with another fingerprint than the one that was recorded."""


@dataclass(frozen=True)
class SnapshotFeature:
    """One feature of a snapshot.

    `version` is the one asked for (0: the newest known at each as_of), `versions` those that were
    found. `nulls` counts cells without a value, `undefined` those written as NaN. `definition` is
    the registered view of the feature, if there is one.
    """

    name: str
    version: int
    versions: list[int]
    nulls: int
    undefined: int
    json: bool = False
    definition: dict[str, Any] | None = None


@dataclass(frozen=True)
class Manifest:
    """All that is needed to check a snapshot, and to build it again.

    `written_by` is the watermark: the snapshot holds what was written up to that moment of the
    server's clock, by transactions that had all ended. `age_limits` are the rules by which values
    were too old, by feature: of `max_age`, and of the views; None where they were not recorded.
    """

    name: str
    fingerprint: str
    spine_hash: str
    written_by: datetime
    created_at: datetime
    rows: int
    entity: str | dict[str, list[str]]
    as_of: str
    spine_columns: list[str]
    features: list[SnapshotFeature]
    max_age: Duration | None
    partition: str | None
    schema: list[dict[str, str]]
    files: list[DataFile]
    database: str
    libraries: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT
    fingerprint_version: int = 1
    age_limits: dict[str, list[dict[str, Any]]] | None = None

    def to_json(self) -> str:
        """The text of the file."""
        plain = asdict(self)
        plain["written_by"] = self.written_by.isoformat()
        plain["created_at"] = self.created_at.isoformat()
        if isinstance(self.max_age, timedelta):
            plain["max_age"] = self.max_age.total_seconds()
        elif self.max_age is not None:
            plain["max_age"] = str(self.max_age)
        return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Manifest:
        """Read the text of the file; raises SnapshotError for anything else."""
        try:
            plain = json.loads(text)
            if plain["format"] != FORMAT:
                raise SnapshotError(
                    f"{where} is a snapshot of format {plain['format']}; this version reads "
                    f"{FORMAT}: upgrade mlflow-timescale"
                )
            names = [name for name in _NAMES if _is_known(plain, name)]
            return cls(**_typed({name: plain[name] for name in names}))
        except UNREADABLE as exc:
            raise SnapshotError(f"{where} has a damaged {FILE}: {exc!r}") from exc


_NAMES = [entry.name for entry in fields(Manifest)]
_ADDED = {
    "age_limits",
    "fingerprint_version",
}  # absent from older manifests


def _is_known(plain: Mapping[str, Any], name: str) -> bool:
    return name in plain or name not in _ADDED


def library_versions() -> dict[str, str]:
    """The versions of the libraries that had a part in a snapshot."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _typed(plain: dict[str, Any]) -> Mapping[str, Any]:
    _check_types(plain)
    age = plain["max_age"]
    if age is not None:
        age = parse_duration(age) if isinstance(age, str) else timedelta(seconds=age)
    return plain | {
        "written_by": datetime.fromisoformat(plain["written_by"]),
        "created_at": datetime.fromisoformat(plain["created_at"]),
        "max_age": age,
        "features": [SnapshotFeature(**feature) for feature in plain["features"]],
        "files": [DataFile(**file) for file in plain["files"]],
    }


_TYPES: dict[str, Any] = {
    "name": str,
    "fingerprint": str,
    "spine_hash": str,
    "rows": int,
    "entity": (str, dict),
    "as_of": str,
    "spine_columns": list,
    "features": list,
    "partition": (str, type(None)),
    "schema": list,
    "files": list,
    "database": str,
    "libraries": dict,
    "fingerprint_version": int,
    "age_limits": (dict, type(None)),
}


def _check_types(plain: Mapping[str, Any]) -> None:
    """Raise TypeError for a field of another type: a manifest may come from elsewhere."""
    for name, kind in _TYPES.items():
        if name in plain and not isinstance(plain[name], kind):
            raise TypeError(f"{name} is a {type(plain[name]).__name__}")
    texts = [*plain["spine_columns"], *(feature["name"] for feature in plain["features"])]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a column has no name")
    if not all(type(feature["version"]) is int for feature in plain["features"]):
        raise TypeError("a feature has no version")
    if not all(isinstance(column["name"], str) for column in plain["schema"]):
        raise TypeError("the schema has a column without a name")
