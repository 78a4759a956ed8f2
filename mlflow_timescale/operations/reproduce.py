"""Reproducibility of a run: six checks, each with what is recorded and what is missing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from mlflow_timescale.artifacts import ledger, verify
from mlflow_timescale.artifacts.databases import connection
from mlflow_timescale.artifacts.ledger import Selection
from mlflow_timescale.common.errors import first_of
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.registry.model_registry import ModelRegistry
from mlflow_timescale.run_context import DIRTY, PACKAGES, PYTHON, SEEDS

_COMMIT = "mlflow.source.git.commit"
_SNAPSHOT = "feature_snapshot"
SNAPSHOT_SECONDS = 600.0


class WithoutRun(MlflowException):  # type: ignore[misc]
    """A version that was registered without a run."""


@dataclass(frozen=True)
class Item:
    """One check: whether it holds, what is recorded, and what is missing."""

    name: str
    holds: bool
    recorded: str
    missing: str = ""


@dataclass(frozen=True)
class Context:
    """A run, and the client and database to read about it."""

    run: Run
    client: MlflowClient
    database: DatabaseURI

    @property
    def tags(self) -> dict[str, str]:
        tags: dict[str, str] = self.run.data.tags
        return tags


def checklist(database: DatabaseURI, run: str) -> list[Item]:
    """The six checks of a run, or of a version's run; artifacts are compared with the ledger.

    Raises MlflowException if there is no such run or version.
    """
    client = MlflowClient(database.url, database.url)
    context = Context(client.get_run(run_id_of(database, run)), client, database)
    return [row(context) for row in _ROWS]


def run_id_of(database: DatabaseURI, text: str) -> str:
    """The run that a text names: by its id, or by a version such as "momentum/1".

    Raises MlflowException if there is no such version, WithoutRun if it has no run.
    """
    plain = text.removeprefix("runs:/")
    if "/" not in plain and "@" not in plain:
        return plain
    model = ModelRegistry(database).get_model(text)
    if model is None:
        raise MlflowException(f"model version {text} does not exist", RESOURCE_DOES_NOT_EXIST)
    if model.model_id is None:
        raise WithoutRun(f"model version {text} has no run", RESOURCE_DOES_NOT_EXIST)
    return model.model_id.hex


def code_version(context: Context) -> Item:
    """The git commit of the code, and whether files differed from it."""
    commit, state = context.tags.get(_COMMIT), context.tags.get(DIRTY)
    python, seeds = context.tags.get(PYTHON), context.tags.get(SEEDS)
    packages = packages_of(context.tags.get(PACKAGES, "{}"))
    recorded = [f"git {commit[:12]}" if commit else ""]
    recorded += ["" if state is None else "clean" if state == "false" else "files changed"]
    recorded += [f"Python {python}" if python else "", f"{len(packages)} packages"]
    recorded += [f"seeds {seeds}" if seeds else ""]
    missing = (
        "no git commit: start the run from a script in a git repository"
        if not commit
        else "files differed from the commit: commit before training"
        if state == "true"
        else "whether files differed from the commit is not recorded"
        if state is None
        else ""
    )
    return Item("code version", not missing, ", ".join(filter(None, recorded)), missing)


def packages_of(text: str) -> dict[str, str]:
    """The packages of a tag, which its user can set to any text."""
    try:
        packages = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return packages if isinstance(packages, dict) else {}


def feature_versions(context: Context) -> Item:
    """The features and versions that were read, as pinned by a snapshot's manifest."""
    datasets = [item.dataset for item in context.run.inputs.dataset_inputs]
    pinned = [data for data in datasets if data.source_type == _SNAPSHOT]
    tagged = context.tags.get("feature_versions") or context.run.data.params.get("feature_versions")
    names = [f"{data.name} ({data.digest[:12]})" for data in pinned] + ([tagged] if tagged else [])
    missing = "" if names else "log the feature snapshot that was trained on: mlflow.log_input"
    return Item("feature versions", bool(names), ", ".join(names), missing)


def training_data(context: Context) -> Item:
    """The fingerprints of the data; a snapshot is opened and verified."""
    datasets = [item.dataset for item in context.run.inputs.dataset_inputs]
    period = [context.tags.get(name) for name in ("dataset_start", "dataset_end")]
    recorded = [f"{data.name} {data.digest}" for data in datasets]
    recorded += [f"{period[0]} to {period[1]}"] if all(period) else []
    problems = [problem for data in datasets if (problem := _problem_with(data))]
    missing = "; ".join(problems) if datasets else "no dataset: mlflow.log_input(dataset)"
    return Item("training data", not missing, ", ".join(recorded), missing)


def _problem_with(dataset: Any) -> str:
    if dataset.source_type != _SNAPSHOT:
        return ""
    from mlflow.data import get_source

    try:
        within(SNAPSHOT_SECONDS, get_source(dataset).load)
    except Exception as exc:
        return f"{dataset.name}: {' '.join(str(exc).split())}"
    return ""


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """The result of a function; raise its error, or TimeoutError if it takes longer."""
    errors: list[Exception] = []
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(call())
        except Exception as exc:
            errors.append(exc)

    # A daemon: a store that never answers must not keep the process from ending.
    thread = threading.Thread(target=run, name="reproduce", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"the store of the snapshot did not deliver it within {seconds:.0f} s")
    for error in errors:
        raise error
    return results[0]


def parameters(context: Context) -> Item:
    """The number of hyperparameters."""
    count = len(context.run.data.params)
    missing = "" if count else "no parameters: mlflow.log_params(...)"
    return Item("parameters", bool(count), f"{count} parameters", missing)


def weights(context: Context) -> Item:
    """The run's artifacts and logged models, read and compared with the ledger."""
    run_id = context.run.info.run_id
    outputs = context.run.outputs.model_outputs if context.run.outputs else []
    selections = [Selection(run_id=run_id)]
    selections += [Selection(model_id=output.model_id) for output in outputs]
    with connection(context.database) as conn:
        entries = [entry for selection in selections for entry in ledger.select(conn, selection)]
    failures = [
        check
        for selection in selections
        for check in verify.failing(context.database, selection, purpose="audit")
    ]
    recorded = f"{len(entries)} files, {sum(entry.fingerprint.size for entry in entries):,} bytes"
    missing = (
        "no file in the ledger: log the model, or run mlflow-timescale artifacts adopt"
        if not entries
        else "; ".join(f"{check.location}: {check.outcome}" for check in failures)
    )
    return Item("weights", not missing, recorded, missing)


def metrics(context: Context) -> Item:
    """The names of the metrics."""
    names = sorted(context.run.data.metrics)
    missing = "" if names else "no metrics: registry.log_metrics(..., dataset_type='test')"
    return Item("metrics", bool(names), first_of(names, 6), missing)


_ROWS: tuple[Callable[[Context], Item], ...] = (
    code_version,
    feature_versions,
    training_data,
    parameters,
    weights,
    metrics,
)
