"""Which recorder of qlib was online at a time, what it said, and whether that has changed."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, timezone
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from support.qlib_data import write_data

from mlflow_timescale import qlib_online
from mlflow_timescale.cli import cli
from mlflow_timescale.common.frames import InvalidFrame
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.qlib_online import OnlineAnswer, OnlineRecorder
from mlflow_timescale.operations.qlib_predictions import (
    SessionChange,
    changes_between,
    read_predictions,
)

DAYS = pd.bdate_range("2024-01-02", periods=4)
NAMES = ["SH600000", "SH600001", "SH600002"]


def scores(days: pd.DatetimeIndex = DAYS, seed: int = 0) -> pd.Series:
    index = pd.MultiIndex.from_product([days, NAMES], names=["datetime", "instrument"])
    return pd.Series(np.random.default_rng(seed).normal(size=len(index)), index, name="score")


def pickled(frame: pd.Series | pd.DataFrame) -> bytes:
    return pickle.dumps(frame)


def test_only_sessions_of_then_can_have_changed() -> None:
    then = scores().iloc[:9]  # three sessions
    then.iloc[0] = np.nan
    now = scores()
    now.iloc[0] = np.nan
    now.iloc[4] += 1
    now = now.drop(now.index[6])
    extra = (DAYS[2], "SH600009")
    now.loc[extra] = 1.0
    changed = changes_between(*(read_predictions(pickled(each), "p") for each in (then, now)))
    assert changed == (
        SessionChange(DAYS[1].date(), changed=1, removed=0, added=0),
        SessionChange(DAYS[2].date(), changed=0, removed=1, added=1),
    )


@pytest.mark.parametrize(
    "frame",
    [
        scores().to_frame(),
        scores().reorder_levels(["instrument", "datetime"]),
        pd.concat([scores(seed=1).iloc[:2], scores()]),
        scores().to_frame().assign(other=0.0),
    ],
    ids=["frame", "other order of levels", "repeated", "more columns"],
)
def test_predictions_are_read_from_every_form_that_qlib_writes(frame: pd.DataFrame) -> None:
    read, plain = (read_predictions(pickled(each), "pred.pkl") for each in (frame, scores()))
    assert changes_between(read, plain) == changes_between(plain, read) == ()
    assert len(read) == len(plain)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickled(scores().reset_index()), "no index of datetime and instrument"),
        (pickled(scores().astype(str).replace(".*", "x", regex=True)), "holds no scores"),
        (b"no pickle", "pred.pkl"),
    ],
)
def test_another_file_is_refused_with_its_name(content: bytes, message: str) -> None:
    with pytest.raises(InvalidFrame, match=message):
        read_predictions(content, "pred.pkl")


@pytest.fixture
def client(shared_database: DatabaseURI) -> mlflow.MlflowClient:
    mlflow.set_tracking_uri(shared_database.url)
    return mlflow.MlflowClient(shared_database.url)


def log(client: mlflow.MlflowClient, run: str, frame: pd.Series, folder: Path) -> datetime:
    path = folder / "pred.pkl"
    path.write_bytes(pickled(frame))
    client.log_artifact(run, str(path))
    return datetime.now(timezone.utc)


def recorder(answer: OnlineAnswer) -> OnlineRecorder:
    [found] = answer.recorders
    return found


def test_the_recorder_of_an_evening_is_shown_with_what_it_said(
    client: mlflow.MlflowClient, shared_database: DatabaseURI, tmp_path: Path
) -> None:
    experiment = client.create_experiment("alpha")
    first, second = (client.create_run(experiment).info.run_id for _ in range(2))
    client.set_tag(first, "online_status", "online")
    client.set_tag(second, "online_status", "offline")
    before = datetime.now(timezone.utc)
    monday = log(client, first, scores().iloc[:9], tmp_path)
    later = scores()
    appended = log(client, first, later, tmp_path)
    later.iloc[4] += 1
    log(client, first, later, tmp_path)
    client.set_tag(first, "online_status", "offline")
    client.set_tag(second, "online_status", "online")
    uri = shared_database.url

    assert recorder(qlib_online(uri, "alpha", before)).problem == "it had no pred.pkl then"
    then = recorder(qlib_online(uri, "alpha", monday))
    assert then.run_id == first
    assert then.predictions is not None
    assert then.predictions.sessions == (DAYS[0].date(), DAYS[2].date())
    assert then.changes == (SessionChange(DAYS[1].date(), 1, 0, 0),)
    assert recorder(qlib_online(uri, experiment, appended)).past_changed
    now = recorder(qlib_online(uri, "alpha", datetime.now(timezone.utc)))
    assert (now.run_id, now.problem) == (second, "it had no pred.pkl then")
    with pytest.raises(LookupError, match=r"no experiment 'alphas' .did you mean alpha"):
        qlib_online(uri, "alphas", monday)
    assert "begins on" in qlib_online(uri, "alpha", monday.replace(year=2020)).unknown


@pytest.fixture
def online(shared_database: DatabaseURI) -> Callable[..., Result]:
    def call(*words: str) -> Result:
        return CliRunner().invoke(cli, ["qlib", "online", *words, "--uri", shared_database.url])

    return call


def test_the_command_shows_a_changed_past_and_writes_what_was_said(
    client: mlflow.MlflowClient, online: Callable[..., Result], tmp_path: Path
) -> None:
    run = client.create_run(client.create_experiment("beta"), run_name="lgb").info.run_id
    client.set_tag(run, "online_status", "online")
    evening = log(client, run, scores().iloc[:9], tmp_path).isoformat()
    assert "the past is unchanged" in online("beta", "--at", evening).output
    log(client, run, scores(), tmp_path)
    unchanged = online("beta", "--at", evening)
    assert "9 predictions, 2024-01-02 to 2024-01-04" in unchanged.output
    assert unchanged.exit_code == 0
    log(client, run, scores(seed=1), tmp_path)
    out = tmp_path / "then.parquet"
    shown = online("beta", "--at", evening, "-o", str(out))
    assert "the past has changed since, in 3 sessions:" in shown.output
    assert "2024-01-03: 3 changed" in shown.output
    assert shown.exit_code == 3
    assert pq.read_table(out)["score"].to_pylist() == scores().iloc[:9].tolist()
    as_json = json.loads(online("beta", "--at", evening, "--json").output)
    assert as_json["recorders"][0]["past_changed"] is True
    client.delete_run(run)
    assert online("beta", "--at", evening, "-o", str(tmp_path / "then.csv")).exit_code == 3
    assert (tmp_path / "then.csv").read_text().count("SH600001") == 3
    early = online("beta", "--at", "2020-01-02T00:00Z")
    assert early.exit_code == 3
    assert "the history of the tag online_status begins on" in early.output


TRAIN = """
import sys
import qlib
from qlib.workflow import R
from qlib.workflow.online.utils import OnlineToolR
from qlib.model.trainer import task_train
from support.qlib_data import workflow

data, uri, run = sys.argv[1:]
manager = {"class": "MLflowExpManager", "module_path": "qlib.workflow.expm",
           "kwargs": {"uri": uri, "default_exp_name": "real"}}
qlib.init(provider_uri=data, region="cn", exp_manager=manager)
tool = OnlineToolR("real")
if run == "train":
    task = workflow(data)["task"]
    task["record"] = task["record"][:1]
    recorder = task_train(task, experiment_name="real")
    tool.set_online_tag(OnlineToolR.ONLINE_TAG, recorder)
    print(recorder.id)
else:
    from qlib.workflow.online.update import PredUpdater
    recorder = R.get_recorder(recorder_id=run, experiment_name="real")
    PredUpdater(recorder, from_date="2020-06-01").update()
    tool.reset_online_tag([])
"""


@pytest.mark.slow
def test_qlibs_own_online_tool_and_updater_leave_a_history(
    shared_database: DatabaseURI, tmp_path: Path
) -> None:
    pytest.importorskip("qlib")
    uri, support = shared_database.url, str(Path(__file__).parents[1])
    old = write_data(tmp_path / "old", instruments=6)
    revised = write_data(tmp_path / "revised", instruments=6, last="2020-07-31", seed=1)

    def script(data: Path, run: str) -> str:
        code = f"import sys; sys.path.insert(0, {support!r})\n{TRAIN}"
        command = [sys.executable, "-c", code, str(data), uri, run]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.split()[-1] if done.stdout.split() else ""

    run = script(old, "train")
    evening = datetime.now(timezone.utc)
    assert recorder(qlib_online(uri, "real", evening)).past_changed is False
    script(revised, run)
    then = recorder(qlib_online(uri, "real", evening))
    assert then.run_id == run
    assert {change.session.month for change in then.changes} == {6}
    assert all(change.changed > 0 for change in then.changes)
    assert then.predictions is not None
    assert then.predictions.sessions is not None
    assert then.predictions.sessions[1] < date(2020, 7, 1)
    assert not qlib_online(uri, "real", datetime.now(timezone.utc)).recorders
