"""Snapshots as MLflow datasets: logged with a run, and loaded again from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from mlflow.data.dataset import Dataset
from mlflow.data.pyfunc_dataset_mixin import PyFuncConvertibleDatasetMixin, PyFuncInputsOutputs

from mlflow_timescale.dataset_source import SnapshotSource

if TYPE_CHECKING:
    from mlflow.data.evaluation_dataset import EvaluationDataset
    from mlflow.types import Schema

    from .manifest import Manifest

_DIGEST = 32  # MLflow keeps 36 characters; half of a SHA-256 is as good as a whole one here


class SnapshotFiles(Protocol):
    """What a dataset uses of a `Snapshot`."""

    @property
    def url(self) -> str: ...
    @property
    def manifest(self) -> Manifest: ...
    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def feature_names(self) -> list[str]: ...
    def to_pandas(self, columns: list[str] | None = None) -> Any: ...


class SnapshotDataset(Dataset, PyFuncConvertibleDatasetMixin):  # type: ignore[misc]
    """A snapshot as `mlflow.log_input` takes it; also usable by `mlflow.evaluate`."""

    def __init__(
        self, snapshot: SnapshotFiles, name: str | None = None, targets: str | None = None
    ) -> None:
        self.snapshot = snapshot
        self.targets = targets
        source = SnapshotSource(_absolute(snapshot), snapshot.fingerprint)
        super().__init__(source=source, name=name or snapshot.name)

    def _compute_digest(self) -> str:
        return self.snapshot.fingerprint[:_DIGEST]

    def to_dict(self) -> dict[str, str]:
        """What MLflow stores with the run."""
        return {
            **super().to_dict(),
            "schema": json.dumps({"mlflow_colspec": self.schema.to_dict()}),
            "profile": json.dumps(self.profile),
        }

    @property
    def profile(self) -> dict[str, Any]:
        """The size, the watermark, and how many cells have no value."""
        made = self.snapshot.manifest
        return {
            "num_rows": made.rows,
            "num_features": len(made.features),
            "written_by": made.written_by.isoformat(),
            "fingerprint": made.fingerprint,
            "nulls": sum(feature.nulls for feature in made.features),
        }

    @property
    def schema(self) -> Schema:
        """The columns in MLflow's types."""
        from mlflow.types import ColSpec, Schema

        made = self.snapshot.manifest
        return Schema([ColSpec(_mlflow_type(c["type"]), c["name"]) for c in made.schema])

    def to_pyfunc(self) -> PyFuncInputsOutputs:
        """The features as inputs and the target, if there is one, as output."""
        frame = self.snapshot.to_pandas()
        outputs = None if self.targets is None else [frame[self.targets]]
        return PyFuncInputsOutputs([frame[self.snapshot.feature_names]], outputs)

    def to_evaluation_dataset(
        self, path: str | None = None, feature_names: list[str] | None = None
    ) -> EvaluationDataset:
        """The features and the target for `mlflow.evaluate`."""
        from mlflow.data.evaluation_dataset import EvaluationDataset

        names = self.snapshot.feature_names
        columns = names if self.targets is None else [*names, self.targets]
        return EvaluationDataset(
            data=self.snapshot.to_pandas(columns),
            targets=self.targets,
            path=path,
            feature_names=feature_names,
            name=self.name,
            digest=self.digest,
        )


def _absolute(snapshot: SnapshotFiles) -> str:
    """A URL that means the same in another process: a relative path is made absolute."""
    from .storage import Folder

    folder = Folder(snapshot.url)
    return folder.path if folder.is_local else snapshot.url


def _mlflow_type(arrow: str) -> str:
    """MLflow's name of an Arrow type; what it has not, such as lists, it gets as a string."""
    if arrow.startswith(("timestamp", "date")):
        return "datetime"
    return _MLFLOW_TYPES.get(arrow, "string")


_MLFLOW_TYPES = {
    "double": "double",
    "float": "float",
    "bool": "boolean",
    "binary": "binary",
    "large_binary": "binary",
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), "integer"),
    **dict.fromkeys(("int64", "uint32", "uint64"), "long"),
}
