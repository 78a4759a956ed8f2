"""Experiments that were used with a spool: a run can start in them during an outage."""

from __future__ import annotations

import json
from typing import Any

from mlflow.entities import Experiment, ExperimentTag

from mlflow_timescale.common import logs
from mlflow_timescale.spool import Spool, SpoolError

logger = logs.logger(__name__)
_FILE = "experiments.json"


class KnownExperiments:
    """The last state of each experiment that a client of this spool has read.

    Examples
    --------
    >>> import tempfile
    >>> known = KnownExperiments(Spool(tempfile.mkdtemp() + "/spool"))
    >>> known.add(Experiment("7", "momentum", "s3://bucket/7", "active"))
    >>> known.named("momentum").experiment_id, known.get("8")
    ('7', None)
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._written: dict[str, Any] = {}  # by this process

    def add(self, experiment: Experiment, workspace: str | None = None) -> None:
        """Store an experiment; the file is written only if the experiment changed, or is gone."""
        key, fields = f"{workspace or ''}/{experiment.experiment_id}", _fields(experiment)
        if self._written.get(key) != fields or not self._spool.path.exists():
            self._written[key] = fields
            try:
                with self._spool.changing(_FILE) as change:
                    content = json.loads(change.before or b"{}")
                    content.pop(key, None)  # the last one of a name counts
                    change.after = json.dumps({**content, key: fields}).encode()
            except SpoolError as exc:  # the database has answered: no reason to stop
                logger.warning("no other process can start offline in this experiment: %s", exc)

    def get(self, experiment_id: str, workspace: str | None = None) -> Experiment | None:
        """The experiment with an id."""
        fields = self._read().get(f"{workspace or ''}/{experiment_id}")
        return None if fields is None else _experiment(fields)

    def named(self, name: str, workspace: str | None = None) -> Experiment | None:
        """The experiment with a name."""
        matches = [
            fields
            for key, fields in self._read().items()
            if fields["name"] == name and key.rpartition("/")[0] == (workspace or "")
        ]
        return _experiment(matches[-1]) if matches else None

    def _read(self) -> dict[str, Any]:
        """The experiments of the file, and of this process in case the folder was removed."""
        content = json.loads(self._spool.read(_FILE) or b"{}")
        content = content if isinstance(content, dict) else {}
        own = {key: fields for key, fields in self._written.items() if key not in content}
        return {**own, **content}


def _fields(experiment: Experiment) -> dict[str, Any]:
    return {
        "experiment_id": experiment.experiment_id,
        "name": experiment.name,
        "artifact_location": experiment.artifact_location,
        "lifecycle_stage": experiment.lifecycle_stage,
        "creation_time": experiment.creation_time,
        "last_update_time": experiment.last_update_time,
        "tags": dict(experiment.tags),
    }


def _experiment(fields: dict[str, Any]) -> Experiment:
    tags = [ExperimentTag(key, value) for key, value in fields["tags"].items()]
    return Experiment(**{**fields, "tags": tags})
