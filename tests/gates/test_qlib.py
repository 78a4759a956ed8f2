"""qlib itself on our store: its workflow, its recorders, its updater, and its forks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import qlib
import yaml
from click.testing import CliRunner
from qlib.config import C
from qlib.utils import flatten_dict
from qlib.workflow import R
from qlib.workflow.online.update import PredUpdater
from qlib.workflow.online.utils import OnlineToolR
from qlib.workflow.recorder import MLflowRecorder
from support.qlib_data import LAST, workflow, write_data

from mlflow_timescale.artifacts.verify import audit, selection_of
from mlflow_timescale.cli import cli
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.qlib_workflow import (
    WorkflowFailed,
    read_workflow,
    run_workflow,
)

pytestmark = pytest.mark.slow

EXPERIMENT = "alpha158"
SECONDS = 300  # for a process that trains, on a machine with other work
WRITTEN = {
    *("pred.pkl", "label.pkl", "params.pkl", "dataset", "task", "config"),
    *("sig_analysis/ic.pkl", "sig_analysis/ric.pkl"),
    *("portfolio_analysis/report_normal_1day.pkl", "portfolio_analysis/positions_normal_1day.pkl"),
    *("portfolio_analysis/port_analysis_1day.pkl",),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("qlib")
    write_data(path / "data")
    (path / "workflow.yaml").write_text(yaml.safe_dump(workflow(path / "data"), sort_keys=False))
    return path


@pytest.fixture(scope="module")
def run_id(folder: Path, shared_database: DatabaseURI) -> str:
    """The run of the workflow, trained by the command in a process of its own."""
    before = (folder / "workflow.yaml").read_bytes()
    code = "from mlflow_timescale.cli import main; main()"
    command = [sys.executable, "-c", code, "qlib", "run", "workflow.yaml"]
    done = subprocess.run(
        [*command, "--experiment", EXPERIMENT, "--json"],
        cwd=folder,
        env={**os.environ, "MLFLOW_TRACKING_URI": shared_database.url},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "workflow.yaml").read_bytes() == before
    printed = json.loads(done.stdout)
    assert printed["uri"] == str(shared_database)
    return str(printed["run_id"])


@pytest.fixture
def recorders(folder: Path, shared_database: DatabaseURI) -> Iterator[str]:
    """qlib in this process, which records in our database."""
    yield from recording(folder, shared_database.url)


def recording(folder: Path, uri: str) -> Iterator[str]:
    manager = {"class": "MLflowExpManager", "module_path": "qlib.workflow.expm"}
    kwargs = {"uri": uri, "default_exp_name": "Experiment"}
    qlib.init(
        provider_uri=str(folder / "data"),
        kernels=1,
        exp_manager={**manager, "kwargs": kwargs},
        skip_if_reg=False,
    )
    yield uri
    R.end_exp()


def test_the_workflow_is_recorded_whole(
    run_id: str, shared_database: DatabaseURI, folder: Path, recorders: str
) -> None:
    recorder = R.get_recorder(recorder_id=run_id, experiment_name=EXPERIMENT)
    assert recorder.status == "FINISHED"
    assert {"IC", "ICIR", "Rank IC", "l2.train", "l2.valid"} <= set(recorder.list_metrics())
    task = workflow(folder / "data")["task"]
    params = recorder.list_params()
    assert {key: params[key] for key in flatten_dict(task)} == {
        key: str(value) for key, value in flatten_dict(task).items()
    }
    assert set(paths_of(run_id)) >= WRITTEN
    assert recorder.load_object("config") == workflow(folder / "data")
    score = recorder.load_object("pred.pkl")
    assert score.index.names == ["datetime", "instrument"]
    assert score.notna().all(axis=None)


def test_the_decay_of_a_recorder_is_judged_by_the_ic_that_qlib_gives_it(
    run_id: str, shared_database: DatabaseURI, recorders: str
) -> None:
    recorder = R.get_recorder(recorder_id=run_id, experiment_name=EXPERIMENT)
    words = ["drift", "from-qlib", EXPERIMENT, "--uri", shared_database.url, "--json"]
    done = CliRunner().invoke(cli, [*words, "--min-n", "3", "--reference", "20"])
    found = json.loads(done.stdout)
    [model] = [each for each in found["models"] if each["run_id"] == run_id]
    known = [value for value in model["series"]["ic"] if value is not None]
    assert sum(known) / len(known) == pytest.approx(recorder.list_metrics()["Rank IC"], abs=1e-6)
    days = recorder.load_object("pred.pkl").index.get_level_values("datetime")
    assert model["sessions"] == days.nunique()
    assert model["horizon_from"] == "the default label of qlib's Alpha158"


def paths_of(run_id: str, path: str | None = None) -> Iterator[str]:
    """The paths of the files of a run."""
    for item in mlflow.MlflowClient(C.exp_manager["kwargs"]["uri"]).list_artifacts(run_id, path):
        if item.is_dir:
            yield from paths_of(run_id, item.path)
        else:
            yield item.path


def test_an_interrupted_workflow_is_a_failed_run(
    folder: Path, shared_database: DatabaseURI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(task: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("qlib.model.trainer._exe_task", interrupt)
    read = read_workflow(folder / "workflow.yaml")
    with pytest.raises(KeyboardInterrupt):
        run_workflow(read, shared_database.url, "interrupted")
    mlflow.set_tracking_uri(shared_database.url)
    [run] = mlflow.search_runs(experiment_names=["interrupted"], output_format="list")
    assert run.info.status == "FAILED"


def test_an_error_of_qlib_is_one_line_with_its_kind_and_the_run_has_failed(
    folder: Path, shared_database: DatabaseURI
) -> None:
    read = read_workflow(folder / "workflow.yaml")
    read.config["task"]["model"]["class"] = "NoModel"
    with pytest.raises(WorkflowFailed, match=r"experiment broken shows: AttributeError: .*NoModel"):
        run_workflow(read, shared_database.url, "broken")
    mlflow.set_tracking_uri(shared_database.url)
    [run] = mlflow.search_runs(experiment_names=["broken"], output_format="list")
    assert run.info.status == "FAILED"


def test_the_ledger_verifies_every_file(run_id: str, shared_database: DatabaseURI) -> None:
    result = audit(shared_database, selection_of(f"runs:/{run_id}"))
    assert result.total >= len(WRITTEN)
    assert result.passed


def test_the_updater_appends_days_and_the_ledger_follows(
    run_id: str, shared_database: DatabaseURI, recorders: str
) -> None:
    recorder = R.get_recorder(recorder_id=run_id, experiment_name=EXPERIMENT)
    before = recorder.load_object("pred.pkl")
    tool = OnlineToolR(EXPERIMENT)
    assert tool.online_models() == []
    tool.reset_online_tag(recorder)
    assert [model.id for model in tool.online_models()] == [run_id]
    assert recorder.list_tags()["online_status"] == "online"
    tool.update_online_pred()
    after = recorder.load_object("pred.pkl")
    days = after.index.get_level_values("datetime").unique()
    assert days[-1] == pd.Timestamp(LAST) > before.index.get_level_values("datetime").max()
    pd.testing.assert_frame_equal(after.loc[before.index], before)
    assert PredUpdater(recorder).update(ret_new=True) is None  # nothing is left to update
    assert audit(shared_database, selection_of(f"runs:/{run_id}")).passed


@pytest.mark.parametrize("store", ["ours", "MLflow's"])
def test_the_interface_of_recorders_is_that_on_mlflows_store(
    store: str, folder: Path, shared_database: DatabaseURI, tmp_path: Path
) -> None:
    uri = shared_database.url if store == "ours" else f"sqlite:///{tmp_path}/mlflow.db"
    for _ in recording(folder, uri):
        assert R.get_uri() == uri
        first, second = recorded(tmp_path, 1), recorded(tmp_path, 2)
        assert list(R.list_recorders(experiment_name="api")) == [second.id, first.id]
        experiment = R.get_exp(experiment_name="api")
        assert list(experiment.list_recorders(filter_string="params.lr = '1'")) == [first.id]
        by_name = R.get_recorder(recorder_name="number 2", experiment_name="api")
        assert by_name.id == second.id
        assert by_name.list_metrics() == {"loss": 2.0}
        searched = R.search_records(
            [first.experiment_id], max_results=1000, order_by=["metrics.loss DESC"]
        )
        assert [run.info.run_id for run in searched] == [second.id, first.id]
        assert first.load_object("frame.pkl").equals(pd.DataFrame({"a": [1]}))
        assert sorted(first.list_artifacts("folder")) == ["folder/text.txt"]
        assert Path(first.download_artifact("folder/text.txt")).read_text() == "1"
        with R.start(experiment_name="api", recorder_id=first.id, resume=True):
            R.log_metrics(step=3, loss=0.5)
        assert first.list_metrics() == {"loss": 0.5}
        with pytest.raises(qlib.utils.exceptions.LoadObjectError):
            first.load_object("none.pkl")
        first.delete_tags("kept")
        assert "kept" not in first.list_tags()
        experiment.delete_recorder(recorder_id=first.id)
        assert list(R.list_recorders(experiment_name="api")) == [second.id]
        R.delete_exp(experiment_name="api")
        assert "api" not in R.list_experiments()


def recorded(folder: Path, number: int) -> MLflowRecorder:
    """A recorder with one of everything, and a metric of three steps."""
    text = folder / "text.txt"
    text.write_text(str(number))
    with R.start(experiment_name="api", recorder_name=f"number {number}"):
        R.log_params(lr=number)
        R.set_tags(kept="yes")
        for step in range(3):
            R.log_metrics(step=step, loss=number * step / 2)
        R.save_objects(**{"frame.pkl": pd.DataFrame({"a": [1]})})
        R.save_objects(local_path=str(text), artifact_path="folder")
        return R.get_recorder()


FORKS = """
import sys
from joblib import delayed
import qlib
from qlib.utils.paral import ParallelExt
from qlib.workflow import R
from mlflow import MlflowClient

POINTS, CHILDREN = 1500, 24

def child(uri, run_id, number):
    R.get_recorder().client.log_metric(run_id, "of the recorder", number, step=number)
    MlflowClient(uri).log_metric(run_id, "of a client", number, step=number)
    return number

uri, data = sys.argv[1:]
manager = {"class": "MLflowExpManager", "module_path": "qlib.workflow.expm",
           "kwargs": {"uri": uri, "default_exp_name": "forks"}}
qlib.init(provider_uri=data, exp_manager=manager)
with R.start():
    recorder = R.get_recorder()
    for step in range(POINTS):
        R.log_metrics(step=step, loss=step)  # by qlib's thread, which goes on during the forks
    workers = ParallelExt(n_jobs=2, backend="multiprocessing", maxtasksperchild=1, batch_size=1)
    jobs = (delayed(child)(uri, recorder.id, number) for number in range(CHILDREN))
    assert workers(jobs) == list(range(CHILDREN))
history = recorder.client.get_metric_history
assert [point.step for point in history(recorder.id, "loss")] == list(range(POINTS))
for key in ("of the recorder", "of a client"):
    assert sorted(point.step for point in history(recorder.id, key)) == list(range(CHILDREN)), key
print("all is there")
"""


def test_joblib_forks_while_qlibs_thread_logs(folder: Path, shared_database: DatabaseURI) -> None:
    """Each child is forked at another moment of the thread's work, and logs by two clients."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS, shared_database.url, str(folder / "data")],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a child that hangs would keep a pipe open
        text=True,
        timeout=SECONDS,
    )
    assert done.stdout.splitlines()[-1:] == ["all is there"]


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "QLIB_MLFLOW_URI"])
def test_a_script_records_where_qlibs_variable_says(
    name: str, folder: Path, shared_database: DatabaseURI
) -> None:
    """`qlib.init` reads QLIB_MLFLOW_URI; `qrun` replaces it by a folder, and ours does not."""
    code = (
        "import sys, qlib, qlib.cli.run as qrun; from qlib.config import C\n"
        "qlib.init(provider_uri=sys.argv[1]); print(C.exp_manager['kwargs']['uri'])\n"
        "def uri(*_, **__): print(C.exp_manager['kwargs']['uri']); sys.exit()\n"
        "qrun.task_train = uri; qrun.workflow('workflow.yaml')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "data")],
        cwd=folder,
        env={**os.environ, name: shared_database.url},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    in_script, in_qrun = done.stdout.split()
    folder_uri = f"file:{folder}/mlruns"
    assert in_script == (shared_database.url if name == "QLIB_MLFLOW_URI" else folder_uri)
    assert in_qrun == folder_uri
