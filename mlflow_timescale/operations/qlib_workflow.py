"""qlib's workflow (`qrun`) with our experiment manager; the user's file does not change.

`qrun` calls `qlib.cli.run.workflow`, which replaces the tracking URI by a folder `mlruns` if the
file has no `exp_manager` in `qlib_init`, whatever the value of QLIB_MLFLOW_URI. This module reads
the file and trains the task with the same functions of qlib, and another experiment manager.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mlflow.exceptions import MlflowException

from mlflow_timescale.common.errors import InvalidInput
from mlflow_timescale.common.settings import URI
from mlflow_timescale.common.text import one_line
from mlflow_timescale.db import Error
from mlflow_timescale.db.masking import MASK, has_secret, without_secrets
from mlflow_timescale.db.uri import DatabaseURI

EXPERIMENT = "workflow"  # as in qrun
_MANAGER = {"class": "MLflowExpManager", "module_path": "qlib.workflow.expm"}
_CALENDARS = "calendars"  # a folder that qlib's data has
# Keys of a workflow whose values are secrets; `tokenizer` is not one.
_SECRET_KEY = re.compile(
    r"(^|[_-])(password|passwd|passphrase|pwd|secret|token|(api|access|secret)[_-]?key)$",
    re.IGNORECASE,
)


class InvalidWorkflow(InvalidInput, ValueError):
    """A workflow file that cannot be run: not readable, without a key, or without its data."""


class WorkflowFailed(Error):
    """qlib stopped with an error of its own."""


class Recorded(NamedTuple):
    """The run of a workflow, and its experiment."""

    run_id: str
    experiment_id: str
    experiment: str


@dataclass(frozen=True)
class Workflow:
    """A workflow file as qlib reads it: rendered, and merged with its base file."""

    path: Path
    config: Mapping[str, Any]

    @property
    def experiment(self) -> str:
        """The experiment that the file names, or that of qrun."""
        return str(self.config.get("experiment_name") or EXPERIMENT)

    @property
    def manager(self) -> Mapping[str, Any]:
        """The experiment manager of the file: class, module_path, kwargs; empty without one."""
        return self.config["qlib_init"].get("exp_manager") or {}

    @property
    def tracking_uri(self) -> str | None:
        """The tracking URI that the file names.

        None also for a folder: MLflow 3.13 and later refuse to write runs into one.
        """
        uri = str((self.manager.get("kwargs") or {}).get("uri") or "")
        return uri if ":" in uri and not uri.startswith("file:") else None


def read_workflow(path: Path) -> Workflow:
    """Read a workflow file with qlib's functions, and check it.

    Parameters
    ----------
    path
        A YAML file as for `qrun`. Templates of Jinja2 get the environment, and BASE_CONFIG_PATH
        names a file that this one changes. Raises InvalidWorkflow, and InvalidInput without qlib.
    """
    require_qlib()
    config = _merged(path, _load(_rendered(path), path))
    _require_keys(config, path)
    _require_region(config["qlib_init"], path)
    _require_data(config["qlib_init"], path)
    _refuse_secrets(config["task"], path)
    return Workflow(path, config)


def run_workflow(workflow: Workflow, tracking_uri: str, experiment: str) -> Recorded:
    """Train the task of a workflow, and record it.

    Parameters
    ----------
    workflow
        As `read_workflow` returns it.
    tracking_uri
        Where the run is recorded. For the time of the call MLFLOW_TIMESCALE_URI is set to it if it
        names a database of ours, so that loaders of features read from there.
    experiment
        The name of the experiment.

    Raises
    ------
    WorkflowFailed
        qlib stopped with an error, which it names.
    """
    import qlib
    from qlib.cli.run import sys_config
    from qlib.model.trainer import task_train
    from qlib.workflow import R

    config = copy.deepcopy(dict(workflow.config))
    sys_config(config, str(workflow.path))
    manager = _manager(workflow, tracking_uri)
    with _environment(tracking_uri):
        with _named_errors(f"qlib cannot start with qlib_init of {workflow.path}"):
            qlib.init(**{**config["qlib_init"], "exp_manager": manager})
        failed = f"the task of {workflow.path} failed, as its run in experiment {experiment} shows"
        with _named_errors(failed):
            try:
                recorder = task_train(config["task"], experiment_name=experiment)
            except BaseException:
                # After Ctrl-C qlib would end the run as finished: it ends runs of errors only.
                R.end_exp(recorder_status="FAILED")
                raise
        # qrun stores the file's content as `config`. It may hold the password of a database.
        recorder.save_objects(config=_masked(workflow.config))
    return Recorded(recorder.id, recorder.experiment_id, experiment)


@contextmanager
def _named_errors(what: str) -> Iterator[None]:
    """Name the type of an error of qlib: the text of a KeyError alone is not a sentence."""
    try:
        yield
    except (Error, MlflowException):  # of the database or the tracking server: they are sentences
        raise
    except Exception as exc:
        raise WorkflowFailed(f"{what}: {type(exc).__name__}: {without_secrets(str(exc))}") from exc


def require_qlib() -> None:
    """Raise InvalidInput, which names the extra, if qlib is not installed."""
    try:
        import qlib.workflow  # noqa: F401
    except ImportError as exc:
        raise InvalidInput(
            f"qlib cannot be imported ({exc}): pip install 'mlflow-timescale[qlib]'"
        ) from exc


def _rendered(path: Path) -> str:
    """The file with the variables of the environment, as qlib renders it.

    qlib's own function logs the values that it fills in, passwords too.
    """
    from jinja2 import Template, TemplateError

    try:
        text: str = Template(path.read_text("utf-8")).render(os.environ)
        return text
    except (TemplateError, OSError, UnicodeDecodeError) as exc:
        raise InvalidWorkflow(f"{path} cannot be read: {exc}") from exc


def _load(text: str, path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        config = YAML(typ="safe", pure=True).load(text)
    except YAMLError as exc:
        raise InvalidWorkflow(f"{path} is no YAML: {one_line(exc)}") from exc
    if not isinstance(config, dict):
        raise InvalidWorkflow(f"{path} must be a mapping with the keys qlib_init and task")
    return config


def _merged(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The file merged over the base file of BASE_CONFIG_PATH, which is searched as in qlib."""
    from qlib.utils.data import update_config

    if not (name := config.get("BASE_CONFIG_PATH")):
        return config
    places = (Path(name), path.absolute().parent / name)
    base = next((place for place in places if place.is_file()), None)
    if base is None:
        tried = " and ".join(str(place.absolute()) for place in places)
        raise InvalidWorkflow(f"BASE_CONFIG_PATH {name} of {path} is no file; tried {tried}")
    merged: dict[str, Any] = update_config(_load(base.read_text("utf-8"), base), config)
    return merged


def _require_keys(config: Mapping[str, Any], path: Path) -> None:
    for keys in (("qlib_init",), ("task",), ("task", "model"), ("task", "dataset")):
        value: Any = config
        for key in keys:
            value = value.get(key)
        if not isinstance(value, dict):
            state = "lacks" if value is None else "needs a mapping under"
            raise InvalidWorkflow(f"{path} {state} {'.'.join(keys)}, as in qlib's workflow files")


def _require_region(qlib_init: Mapping[str, Any], path: Path) -> None:
    from qlib.constant import REG_CN, REG_TW, REG_US

    region, regions = qlib_init.get("region", REG_CN), (REG_CN, REG_TW, REG_US)
    if region not in regions:
        raise InvalidWorkflow(
            f"qlib has no region {region!r}: qlib_init.region of {path} is one of "
            f"{', '.join(regions)}"
        )


def _require_data(qlib_init: Mapping[str, Any], path: Path) -> None:
    from qlib.config import QSETTINGS, QlibConfig

    provider_uri = qlib_init.get("provider_uri") or QSETTINGS.provider_uri
    for uri in provider_uri.values() if isinstance(provider_uri, dict) else [provider_uri]:
        folder = Path(uri).expanduser()
        # A folder of another machine ("host:/folder") is mounted by qlib.
        kind = QlibConfig.DataPathManager.get_uri_type(str(uri))
        if kind == QlibConfig.LOCAL_URI and not (folder / _CALENDARS).is_dir():
            state = f"has no folder {_CALENDARS}" if folder.is_dir() else "does not exist"
            raise InvalidWorkflow(
                f"the data folder {folder.absolute()} {state}: qlib_init.provider_uri of {path} "
                "must name a folder of qlib's data"
            )


def _refuse_secrets(task: object, path: Path) -> None:
    """Refuse secrets, because qlib logs the whole task as params and artifacts."""
    for name, text in _texts(task, "task"):
        if has_secret(text) or (text and _SECRET_KEY.search(name.rpartition(".")[2])):
            raise InvalidWorkflow(
                f"{name} of {path} holds a password or key, and qlib logs the task with the run: "
                f"leave it out; loaders of features read from {URI.name}"
            )


def _texts(value: object, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, f"{name}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{name}[{number}]")
    elif isinstance(value, str):
        yield name, value


def _masked(value: Any) -> Any:
    """The same structure without the secrets of its texts."""
    if isinstance(value, Mapping):
        return {
            key: MASK if isinstance(inner, str) and _SECRET_KEY.search(str(key)) else _masked(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_masked(inner) for inner in value]
    return without_secrets(value) if isinstance(value, str) else value


def _manager(workflow: Workflow, tracking_uri: str) -> dict[str, Any]:
    """The experiment manager: that of the file with another URI, or qlib's own."""
    from qlib.config import C

    manager = dict(workflow.manager) or dict(_MANAGER)
    kwargs = {"default_exp_name": C["exp_manager"]["kwargs"]["default_exp_name"]}
    return {**manager, "kwargs": {**kwargs, **(manager.get("kwargs") or {}), "uri": tracking_uri}}


@contextmanager
def _environment(tracking_uri: str) -> Iterator[None]:
    """MLFLOW_TIMESCALE_URI, for loaders of features that name no database."""
    before = os.environ.get(URI.name)
    try:
        os.environ[URI.name] = DatabaseURI.parse(tracking_uri).url
    except ValueError:  # a tracking server
        yield
        return
    try:
        yield
    finally:
        os.environ.pop(URI.name)
        if before is not None:
            os.environ[URI.name] = before
