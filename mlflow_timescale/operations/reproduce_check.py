"""Can a version be made again: the six rows of the checklist, each answered by trying it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlflow import MlflowClient

from mlflow_timescale.common import packages
from mlflow_timescale.common.errors import first_of
from mlflow_timescale.dataset_source import is_allowed
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations import reproduce
from mlflow_timescale.operations.reproduce import Context, Item
from mlflow_timescale.operations.reproduce_rerun import Rerun, differences
from mlflow_timescale.run_context import DIRTY, PACKAGES, packages_now

YES, NO, UNKNOWN = "yes", "no", "unknown"
TOLERANCE = 1e-6  # relative, of a metric
_SNAPSHOT = "feature_snapshot"


@dataclass(frozen=True)
class Answer:
    """One row of the checklist.

    Attributes
    ----------
    name
        Such as "training data".
    answer
        "yes": it was checked and holds; "no": it was checked and does not; "unknown": what the
        check needs was not recorded.
    evidence
        What the answer rests on.
    remedy
        What to do; empty where nothing has to be done.

    Examples
    --------
    >>> Answer("parameters", "unknown", "no parameters", "mlflow.log_params(...)").answer
    'unknown'
    """

    name: str
    answer: str
    evidence: str
    remedy: str = ""


def answers(
    database: DatabaseURI,
    version: str,
    *,
    rerun: Callable[[Context], Rerun] | None = None,
    tolerance: float = TOLERANCE,
) -> list[Answer]:
    """The six rows of a version, or of a run.

    Parameters
    ----------
    version
        The id of a run, or a version such as "models:/momentum/3".
    rerun
        Runs the training again (`reproduce_rerun.run_again`); its parameters and metrics are
        compared with the recorded ones. None leaves that out.
    tolerance
        The relative difference within which a metric is the same.

    Raises
    ------
    MlflowException
        There is no such run or version.
    """
    client = MlflowClient(database.url, database.url)
    try:
        run_id = reproduce.run_id_of(database, version)
    except reproduce.WithoutRun as exc:
        return [_without_run(name, str(exc)) for name in NAMES]
    context = Context(client.get_run(run_id), client, database)
    again = rerun(context) if rerun is not None else None
    return [
        code_version(context),
        feature_versions(context),
        training_data(context),
        parameters(context, again),
        weights(context),
        metrics(context, again, tolerance),
    ]


NAMES = (
    "code version",
    "feature versions",
    "training data",
    "parameters",
    "weights",
    "metrics",
)


def _without_run(name: str, reason: str) -> Answer:
    return Answer(name, UNKNOWN, reason, "register versions with the run that trained them")


def _answer(item: Item, *, is_recorded: bool) -> Answer:
    """The answer of a check of what is recorded: what was not recorded cannot be no."""
    answer = YES if item.holds else NO if is_recorded else UNKNOWN
    return Answer(item.name, answer, item.recorded or "nothing recorded", item.missing)


def code_version(context: Context) -> Answer:
    """The commit, whether files differed from it, and the packages that differ today."""
    item = reproduce.code_version(context)
    is_dirty = context.tags.get(DIRTY) == "true"
    result = _answer(item, is_recorded=is_dirty)
    changed = _changed_packages(context.tags.get(PACKAGES, "{}"))
    if not changed:
        return result
    text = f"{len(changed)} packages are others here: {first_of(changed, 3)}"
    remedy = result.remedy or "install the recorded versions before training again"
    return replace(result, evidence=f"{result.evidence}; {text}", remedy=remedy)


def _changed_packages(recorded: str) -> list[str]:
    """The packages of a run whose version here is another one, or that are not installed."""
    here = packages_now()
    used = reproduce.packages_of(recorded)
    return [
        f"{name} {version} (here {here.get(name, 'none')})"
        for name, version in used.items()
        if here.get(name) != version
    ]


def feature_versions(context: Context) -> Answer:
    """The features and versions of the training set, as the manifest of a snapshot pins them."""
    result = _answer(reproduce.feature_versions(context), is_recorded=False)
    datasets = [data.dataset for data in context.run.inputs.dataset_inputs]
    pinned = [pin for data in datasets if (pin := _pinned(data))]
    return replace(result, evidence="; ".join([result.evidence, *pinned]))


def _pinned(dataset: Any) -> str:
    """Such as "rsi_14=1, ret_5d=newest"; nothing where the manifest cannot be read.

    Whether its files are there and right is a question of the training data.
    """
    if dataset.source_type != _SNAPSHOT:
        return ""
    from mlflow.data import get_source

    try:
        url = get_source(dataset).url
        if not is_allowed(url):
            return ""
        opened = packages.load("feature_store.files.snapshots").load_snapshot
        manifest = reproduce.within(
            reproduce.SNAPSHOT_SECONDS, lambda: opened(url, verify=False).manifest
        )
    except Exception:
        return ""
    return first_of([f"{item.name}={item.version or 'newest'}" for item in manifest.features], 10)


def training_data(context: Context) -> Answer:
    """The files of every snapshot, and the same rows from the database as they were known then."""
    name = "training data"
    datasets = [data.dataset for data in context.run.inputs.dataset_inputs]
    if not datasets:
        remedy = "log the snapshot: mlflow.log_input(snapshot.to_mlflow())"
        return Answer(name, UNKNOWN, "no dataset recorded", remedy)
    return _worst(name, [_dataset(data, context.database) for data in datasets])


def _dataset(dataset: Any, database: DatabaseURI) -> Answer:
    if dataset.source_type != _SNAPSHOT:
        evidence = f"{dataset.name} {dataset.digest}: no feature snapshot, so nothing to rebuild"
        return Answer(
            dataset.name, UNKNOWN, evidence, "train on a snapshot: FeatureStore.snapshot(...)"
        )
    try:
        return _rebuilt(dataset, database)
    except Exception as exc:  # whatever the store of the files, or a damaged record, raises
        problem = f"{dataset.name}: {' '.join(str(exc).split())}"
        return Answer(dataset.name, NO, problem, "restore the files of the snapshot")


def _rebuilt(dataset: Any, database: DatabaseURI) -> Answer:
    """Compare three fingerprints: what was logged, the files, and the database."""
    from mlflow.data import get_source

    from mlflow_timescale.features import FeatureStore

    snapshot = reproduce.within(reproduce.SNAPSHOT_SECONDS, get_source(dataset).load)
    made = snapshot.manifest
    rebuild = packages.load("feature_store.files.snapshots").rebuild
    with FeatureStore(database) as store:
        fingerprint = rebuild(store.database, snapshot)
    text = (
        f"{dataset.name}: {made.rows:,} rows in {len(made.files)} files verified; as written by "
        f"{made.written_by:%Y-%m-%d %H:%M:%SZ} the database gives "
    )
    if fingerprint == snapshot.fingerprint:
        return Answer(dataset.name, YES, f"{text}fingerprint {fingerprint[:12]} again")
    text += f"fingerprint {fingerprint[:12]}, the files have {snapshot.fingerprint[:12]}"
    return Answer(
        dataset.name, NO, text, "it is another database, or its history was changed: features diff"
    )


def _worst(name: str, parts: list[Answer]) -> Answer:
    """Several answers as one: no before unknown before yes."""
    order = (NO, UNKNOWN, YES)
    answer = min((part.answer for part in parts), key=order.index)
    remedies = dict.fromkeys(part.remedy for part in parts if part.remedy)
    return Answer(name, answer, "; ".join(part.evidence for part in parts), "; ".join(remedies))


def parameters(context: Context, again: Rerun | None) -> Answer:
    """The parameters, and those of the rerun."""
    recorded = context.run.data.params
    result = _answer(reproduce.parameters(context), is_recorded=False)
    if again is None or again.failure or not recorded:
        return result
    changed = [
        f"{name} {value} (rerun {again.params.get(name, 'none')})"
        for name, value in recorded.items()
        if again.params.get(name) != value
    ]
    if changed:
        evidence = f"{result.evidence}, {len(changed)} others in the rerun: {first_of(changed, 3)}"
        return Answer(result.name, NO, evidence, "pass the recorded parameters to the training")
    return replace(result, evidence=f"{result.evidence}, the same in the rerun")


def weights(context: Context) -> Answer:
    """The files of the model, read again and compared with the SHA-256 of the ledger."""
    item = reproduce.weights(context)
    is_recorded = not item.recorded.startswith("0 files")
    verified = "; SHA-256 of each verified" if item.holds else ""
    return _answer(replace(item, recorded=item.recorded + verified), is_recorded=is_recorded)


def metrics(context: Context, again: Rerun | None, tolerance: float) -> Answer:
    """The metrics, and those of the rerun within the tolerance."""
    result = _answer(reproduce.metrics(context), is_recorded=False)
    recorded = context.run.data.metrics
    if again is None:
        return replace(result, remedy=result.remedy or "--rerun trains again and compares")
    if again.failure:
        return Answer(result.name, UNKNOWN, again.failure, again.remedy)
    return compared(recorded, again.metrics, tolerance, again.run_id)


def compared(
    recorded: Mapping[str, float], again: Mapping[str, float], tolerance: float, run_id: str
) -> Answer:
    """The recorded metrics against those of the rerun.

    Examples
    --------
    >>> compared({"test/ic": 0.04}, {"test/ic": 0.04}, 1e-6, "4c1").answer
    'yes'
    >>> compared({"test/ic": 0.04}, {"test/ic": 0.05}, 1e-6, "4c1").evidence
    'rerun 4c1: 0 of 1 metrics within 1e-06; test/ic 0.04 (rerun 0.05)'
    >>> compared({"live/ic": 0.04}, {}, 1e-6, "4c1").answer
    'unknown'
    """
    shared = sorted(recorded.keys() & again.keys())
    missing = sorted(recorded.keys() - again.keys())
    if not shared:
        remedy = "log the metrics in the run that MLFLOW_RUN_ID names (mlflow.start_run does)"
        return Answer("metrics", UNKNOWN, f"rerun {run_id} logged no metric of the run", remedy)
    other = differences(recorded, again, tolerance)
    text = f"rerun {run_id}: {len(shared) - len(other)} of {len(shared)} metrics within "
    details: Iterable[str] = [
        *other[:3],
        *([f"not logged by the training: {first_of(missing, 4)}"] if missing else []),
    ]
    evidence = "; ".join([f"{text}{tolerance:g}", *details])
    if other:
        remedy = (
            "compare both runs in MLflow; set every seed; --metric-tolerance allows for rounding"
        )
        return Answer("metrics", NO, evidence, remedy)
    return Answer("metrics", YES, evidence)


__all__ = ["NAMES", "NO", "TOLERANCE", "UNKNOWN", "YES", "Answer", "answers", "compared"]
