"""Bringing runs into a database in use: what is new comes, nothing is lost, doubled or undone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import mlflow
import pytest
from click.testing import CliRunner
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    RunStatus,
    RunTag,
    TraceInfo,
    TraceLocation,
    TraceState,
)
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
from support.bringing import Source, Target
from support.databases import dispose_engines

from mlflow_timescale.cli import cli
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.bringing.older_schemas import ImportFailed

NewDatabase = Callable[..., AbstractContextManager[DatabaseURI]]
pytestmark = pytest.mark.slow  # MLflow's migrations on sqlite take 10 s


def assert_same_run(source: Source, target: Target, run_id: str) -> None:
    theirs, ours = source.store.get_run(run_id), target.client.get_run(run_id)
    assert ours.data.params == theirs.data.params
    assert ours.data.tags == theirs.data.tags
    assert repr(sorted(ours.data.metrics.items())) == repr(sorted(theirs.data.metrics.items()))
    fields = ("run_name", "status", "start_time", "end_time", "lifecycle_stage", "user_id")
    assert [getattr(ours.info, name) for name in fields] == [
        getattr(theirs.info, name) for name in fields
    ]
    for key in theirs.data.metrics:
        points = [
            [(m.step, m.timestamp, repr(m.value)) for m in store.get_metric_history(run_id, key)]
            for store in (target.client, source.store)
        ]
        assert sorted(points[0]) == sorted(points[1])


def test_a_run_joins_the_experiment_of_its_name_and_a_second_call_adds_nothing(
    source: Source, target: Target
) -> None:
    runs = [source.run("a"), source.run("b", experiment="other")]
    first = target.merge(source)
    assert (first.runs, first.conflicts, first.notes) == (2, [], [])
    for run_id in runs:
        assert_same_run(source, target, run_id)
    run = target.client.get_run(runs[0])
    assert run.info.experiment_id == target.experiment("workflow")
    before = target.rows("SELECT count(*), sum(hashtext(m::text)) FROM metrics AS m")
    second = target.merge(source)
    assert (second.runs, second.grown, second.unchanged, second.rows) == (0, 0, 2, {})
    assert target.rows("SELECT count(*), sum(hashtext(m::text)) FROM metrics AS m") == before


def test_a_run_that_goes_on_gets_its_new_points_params_tags_and_status(
    source: Source, target: Target
) -> None:
    run_id = source.run()
    target.merge(source)
    source.store.log_batch(
        run_id,
        [Metric("ic", 9.5, 10**12 + 500, 500), Metric("ic", 3.5, 10**12 + 400, -9)],
        [Param("q", "2")],
        [RunTag("t", "2"), RunTag("new", "x"), RunTag("mlflow.runName", "renamed")],
    )
    source.store.update_run_info(run_id, RunStatus.FINISHED, 5, "renamed")
    merged = target.merge(source, changes=True)
    assert (merged.grown, merged.rows["metrics"], merged.rows["params"]) == (1, 2, 1)
    assert_same_run(source, target, run_id)
    assert target.merge(source, changes=True).grown == 0


def test_what_was_changed_here_is_not_undone(source: Source, target: Target) -> None:
    run_id = source.run()
    target.merge(source)
    target.client.set_tag(run_id, "t", "mine")
    target.client.delete_tag(run_id, "ü")
    target.client.set_terminated(run_id, "KILLED")
    source.store.log_metric(run_id, Metric("ic", 1.0, 1, 1000))
    merged = target.merge(source, changes=True)
    run = target.client.get_run(run_id)
    assert merged.rows == {"metrics": 1}
    assert (run.data.tags["t"], "ü" in run.data.tags, run.info.status) == ("mine", False, "KILLED")


def test_an_import_lists_tags_that_differ_and_a_sync_brings_them(
    source: Source, target: Target
) -> None:
    run_id = source.run()
    target.merge(source)
    source.store.set_tag(run_id, RunTag("t", "2"))
    assert target.merge(source).different == [f"run {run_id}: tag 't'"]
    assert target.client.get_run(run_id).data.tags["t"] == "1"
    source.store.set_tag(run_id, RunTag("t", "3"))
    assert target.merge(source, changes=True).different == []
    assert target.client.get_run(run_id).data.tags["t"] == "3"


def test_a_run_with_another_param_is_listed_and_nothing_of_it_changes(
    source: Source, target: Target
) -> None:
    run_id, other = source.run(), source.run()
    target.merge(source)
    source.store.log_batch(run_id, [Metric("ic", 1.0, 1, 999)], [Param("q", "theirs")], [])
    source.store.log_metric(other, Metric("ic", 1.0, 1, 999))
    target.client.log_param(run_id, "q", "ours")
    before = target.client.get_run(run_id).to_dictionary()
    for _ in range(2):
        merged = target.merge(source, changes=True)
        [conflict] = merged.conflicts
        assert conflict.run_id == run_id
        assert conflict.reason == "param 'q' is 'ours' here, not 'theirs'"
        assert target.client.get_run(run_id).to_dictionary() == before
    assert_same_run(source, target, other)


def test_deletions_stay(source: Source, target: Target) -> None:
    deleted, gone, theirs = source.run(), source.run(), source.run()
    target.merge(source)
    target.client.delete_run(deleted)
    target.client.delete_run(gone)
    target.client._tracking_client.store._hard_delete_run(gone)
    source.store.delete_run(theirs)
    for run_id in (deleted, gone):
        source.store.log_metric(run_id, Metric("ic", 1.0, 1, 999))
    merged = target.merge(source, changes=True)
    assert (merged.deleted, merged.runs) == (2, 0)
    assert target.client.get_run(deleted).info.lifecycle_stage == "deleted"
    assert target.rows(f"SELECT FROM runs WHERE run_uuid = '{gone}'") == []
    assert target.client.get_run(theirs).info.lifecycle_stage == "active"


def test_what_the_database_refuses_is_listed_and_the_other_runs_come(
    source: Source, target: Target
) -> None:
    runs = [source.run(str(number)) for number in range(5)]
    source.store.set_tag(runs[2], RunTag("nul", "a\0b"))
    merged = target.merge(source)
    assert [each.run_id for each in merged.conflicts] == [runs[2]]
    assert "refused" in merged.conflicts[0].reason
    assert merged.runs == 4
    assert target.rows(f"SELECT FROM metrics WHERE run_uuid = '{runs[2]}'") == []


def test_datasets_models_and_traces_come_with_their_experiment(
    source: Source, target: Target
) -> None:
    store, run_id = source.store, source.run(experiment="with everything")
    experiment = source.experiment("with everything")
    dataset = Dataset("data", "digest", "local", "here")
    model = store.create_logged_model(experiment, "model", run_id)
    store.log_inputs(run_id, [DatasetInput(dataset, [InputTag("k", "v")])])
    store.log_outputs(run_id, [LoggedModelOutput(model.model_id, 3)])
    place = TraceLocation.from_experiment_id(experiment)
    store.start_trace(TraceInfo("tr-merge", place, 1, TraceState.OK, tags={"k": "ü"}))
    assert target.merge(source).notes == []
    ours = target.client
    run = ours.get_run(run_id)
    assert run.inputs.dataset_inputs[0].dataset.digest == "digest"
    assert run.outputs.model_outputs[0].model_id == model.model_id
    assert ours.get_logged_model(model.model_id).experiment_id == run.info.experiment_id
    [trace] = ours.search_traces([run.info.experiment_id], include_spans=False)
    assert trace.info.tags["k"] == "ü"
    store.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    target.merge(source, changes=True)
    assert ours.get_logged_model(model.model_id).status.value == "READY"


def test_a_run_with_a_file_that_cannot_be_read_comes_whole_or_not_at_all(
    folder: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.tracking.file_store import FileStore

    store = FileStore(str(folder))
    experiment = store.create_experiment("with closed files")
    runs = [store.create_run(experiment, "me", 1, [], name).info.run_id for name in "abc"]
    for run in runs:
        store.log_batch(run, [Metric("ic", 0.1, 1, 1)], [Param("p", "1"), Param("q", "2")], [])
    closed = [folder / experiment / runs[0] / "params/q", folder / experiment / runs[1] / "metrics"]

    def denied(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(closed[0]))

    with monkeypatch.context() as root_reads_every_file:
        read, scan = Path.read_bytes, os.scandir
        root_reads_every_file.setattr(
            Path, "read_bytes", lambda path: denied() if path == closed[0] else read(path)
        )
        root_reads_every_file.setattr(
            os, "scandir", lambda path: denied() if str(path) == str(closed[1]) else scan(path)
        )
        merged = target.merge(folder, changes=True)
    assert {each.run_id for each in merged.conflicts} == set(runs[:2])
    assert all("Permission denied" in each.reason for each in merged.conflicts)
    assert merged.runs == 1
    merged = target.merge(folder, changes=True)
    assert (merged.runs, merged.conflicts) == (2, [])
    for run in runs:
        data = target.client.get_run(run).data
        assert (data.params, data.metrics) == ({"p": "1", "q": "2"}, {"ic": 0.1})


def test_copies_of_a_run_that_went_on_apart_are_not_taken_for_the_same(
    source: Source, target: Target, tmp_path: Path
) -> None:
    runs = [source.run("with params"), source.run("with points")]
    target.merge(source, changes=True)
    dispose_engines()
    copies = [Source(Path(shutil.copy(source.path, tmp_path / f"{name}.db"))) for name in "ab"]
    for number, copy in enumerate(copies):
        copy.store.log_param(runs[0], Param("q", str(number)))
        copy.store.log_metric(runs[1], Metric("ic", float(number), 1, 1000 + number))
    assert target.merge(copies[0], changes=True).conflicts == []
    merged = target.merge(copies[1], changes=True)
    [conflict] = merged.conflicts
    assert (conflict.run_id, conflict.reason) == (runs[0], "param 'q' is '0' here, not '1'")
    assert merged.rows["metrics"] == 1


def test_a_registered_model_of_the_same_name_is_a_conflict_unless_a_prefix_parts_them(
    source: Source, target: Target
) -> None:
    registry = Registry(source.url)
    registry.create_registered_model("momentum")
    registry.create_model_version("momentum", "s3://theirs", source.run())
    registry.set_registered_model_alias("momentum", "live", 1)
    target.client.create_registered_model("momentum")
    target.client.create_model_version("momentum", "s3://ours")
    merged = target.merge(source)
    [note] = merged.notes
    assert merged.not_brought == [note]
    assert "version 1 is another one here" in note
    assert target.client.get_model_version("momentum", "1").source == "s3://ours"
    target.merge(source, prefix="cluster-")
    version = target.client.get_model_version_by_alias("cluster-momentum", "live")
    assert version.source == "s3://theirs"
    assert target.client.get_experiment_by_name("cluster-workflow") is not None
    with pytest.raises(ImportFailed, match="'cluster/' has / or :"):
        target.merge(source, prefix="cluster/")


def test_settings_of_a_server_are_not_carried_and_said_to_be_so(
    source: Source, target: Target
) -> None:
    from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent

    events = [WebhookEvent(WebhookEntity.MODEL_VERSION, WebhookAction.CREATED)]
    Registry(source.url).create_webhook("hook", "https://93.184.216.34/hook", events)
    assert target.merge(source).notes == [
        "webhooks: 1 rows are not carried into a database in use",
        "webhook_events: 1 rows are not carried into a database in use",
    ]


def test_the_command_prints_what_would_come_then_what_came(source: Source, target: Target) -> None:
    run_id = source.run()

    def call(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli, [*words, "--uri", target.uri.url])
        return result.exit_code, result.output

    code, output = call("import", source.url, "--dry-run")
    assert (code, "would be added: " in output, "1 new runs" in output) == (0, True, True)
    assert target.rows(f"SELECT FROM runs WHERE run_uuid = '{run_id}'") == []
    code, output = call("import", source.url)
    assert (code, "1 new runs" in output) == (0, True)
    code, output = call("sync", source.url, "--json")
    result = json.loads(output)
    assert (code, result["runs"]["unchanged"], result["rows"]) == (0, 1, 0)
    source.store.log_param(run_id, Param("q", "1"))
    target.client.log_param(run_id, "q", "2")
    code, output = call("sync", source.url)
    assert code == 3
    assert f"run {run_id}: param 'q' is '2' here, not '1'" in output


def test_two_databases_are_joined_with_the_artifacts_in_them(
    target: Target, new_database: NewDatabase
) -> None:
    with new_database() as uri:
        other = Target(uri)
        run = other.client.create_run(other.experiment("workflow"), run_name="of the other")
        run_id = run.info.run_id
        other.client.log_metric(run_id, "ic", 0.5)
        other.client.log_text(run_id, "early", "early.txt")

        def sync() -> dict[str, Any]:
            words = ["sync", uri.url, "--artifacts", "--json", "--uri", target.uri.url]
            result: dict[str, Any] = json.loads(CliRunner().invoke(cli, words).stdout)
            return result

        result = sync()
        assert (result["runs"]["new"], result["files"], result["skipped"]) == (1, 1, {})
        assert "only --artifacts copies them" in result["notes"][0]
        other.client.log_text(run_id, "late", "late.txt")
        other.client.set_terminated(run_id)
        assert sync()["runs"]["grown"] == 1
        assert (sync()["rows"], sync()["skipped"]) == (0, {})
        here = target.client.get_run(run_id)
        assert (here.info.run_name, here.data.metrics) == ("of the other", {"ic": 0.5})
    mlflow.set_tracking_uri(target.uri.url)
    for name in ("early", "late"):
        assert mlflow.artifacts.load_text(f"runs:/{run_id}/{name}.txt") == name


def test_a_killed_sync_is_continued_and_nothing_is_lost_or_doubled(
    source: Source, target: Target
) -> None:
    experiment = source.experiment("killed")
    runs = []
    for number in range(60):
        run = source.store.create_run(experiment, "me", number, [], str(number)).info.run_id
        source.store.log_batch(
            run, [Metric("ic", i / 3, 10**12 + i, i) for i in range(100)], [Param("p", "1")], []
        )
        runs.append(run)
    dispose_engines()
    program = (
        "import os, sys\n"
        "from mlflow_timescale import db\n"
        "from mlflow_timescale.operations.bringing import merging\n"
        "merging._POINTS = 500\n"
        "def stop(done, total):\n"
        "    if done >= 20: os.kill(os.getpid(), 9)\n"
        "with db.connect(sys.argv[2], autocommit=True) as conn:\n"
        "    merging.merge_from(sys.argv[1], conn, changes=True, on_runs=stop)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, source.url, target.uri.url], capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    half = target.rows(
        "SELECT count(*) FROM runs JOIN experiments USING (experiment_id)"
        " WHERE experiments.name = 'killed'"
    )
    assert half == [(20,)]
    merged = target.merge(source, changes=True)
    assert (merged.runs, merged.unchanged, merged.rows["metrics"]) == (40, 20, 4000)
    [(count, distinct)] = target.rows(
        "SELECT count(*), count(DISTINCT (run_uuid, step)) FROM metrics"
        f" WHERE run_uuid IN ({', '.join(repr(run) for run in runs)})"
    )
    assert (count, distinct) == (6000, 6000)


def test_a_folder_is_synced_again_and_again(folder: Path, target: Target) -> None:
    from mlflow.store.tracking.file_store import FileStore

    store = FileStore(str(folder))
    experiment = store.create_experiment("workflow")
    runs = []
    for name in ("quiet", "running"):
        run = store.create_run(experiment, "me", 1, [], name).info.run_id
        store.log_batch(run, [Metric("a/b", 1.5, 1, 1)], [Param("p", "1")], [RunTag("t", "1")])
        runs.append(run)
    assert target.merge(folder, changes=True).runs == 2
    store.log_metric(runs[1], Metric("a/b", 2.5, 2, 2))
    store.set_tag(runs[1], RunTag("t", "2"))
    merged = target.merge(folder, changes=True)
    assert (merged.grown, merged.unchanged, merged.rows) == (1, 1, {"tags": 1, "metrics": 1})
    run = target.client.get_run(runs[1])
    assert (run.data.metrics, run.data.tags["t"]) == ({"a/b": 2.5}, "2")
    assert run.info.experiment_id == target.experiment("workflow")


def test_a_database_in_which_a_training_still_writes_is_synced_again_and_again(
    source: Source, target: Target
) -> None:
    run_id = source.run("still running", experiment="live")
    done = threading.Event()

    def train() -> None:
        for step in range(300, 400):
            source.store.log_metric(run_id, Metric("ic", step / 7, 10**12 + step, step))
        source.store.update_run_info(run_id, RunStatus.FINISHED, 5, "still running")
        done.set()

    training = threading.Thread(target=train)
    training.start()
    counts = []
    while not done.is_set() or not counts:
        target.merge(source, changes=True)
        points = target.rows(f"SELECT step FROM metrics WHERE run_uuid = '{run_id}' AND key = 'ic'")
        assert sorted(step for (step,) in points) == list(range(len(points)))
        counts.append(len(points))
    training.join()
    target.merge(source, changes=True)
    assert counts == sorted(counts)
    assert_same_run(source, target, run_id)
