"""A file store as people have it: 18-digit ids, deleted things, and what was damaged."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, TraceInfo, TraceLocation, TraceState, ViewType
from mlflow.store.model_registry.file_store import FileStore as Registry
from mlflow.store.tracking.file_store import FileStore

from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations import file_store
from mlflow_timescale.operations.importing import ImportFailed, import_from

OLD_ID = "mlops.imported.experiment_id"


@dataclass
class Folder:
    """A file store, and the ids of what is in it."""

    path: Path
    ids: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def run(self, name: str) -> Path:
        [path] = self.path.glob(f"*/{self.ids[name]}")
        return path


def log(store: FileStore, experiment: str, name: str, *tags: RunTag) -> str:
    run_id: str = store.create_run(experiment, "me", 1, list(tags), name).info.run_id
    metrics = [Metric("ic/mean", step / 7, 10**12 + step, step) for step in range(5)]
    store.log_batch(run_id, metrics, [Param("p", "ß")], [RunTag("a/b", "ü")])
    return run_id


def fill(path: Path) -> Folder:
    """Everything that a file store holds, in order."""
    store, folder = FileStore(str(path)), Folder(path)
    ids = folder.ids
    for name in ("workflow", "deleted", "nameless", "broken"):
        ids[name] = store.create_experiment(name)
    assert all(len(ids[name]) == 18 for name in ("workflow", "deleted"))
    for name in ("plain", "gone", "damaged", "no meta", "cut off", "twice"):
        ids[name] = log(store, ids["workflow"], name)
    ids["child"] = log(store, ids["workflow"], "child", RunTag("mlflow.parentRunId", ids["plain"]))
    ids["of nameless"] = log(store, ids["nameless"], "of nameless")
    ids["of deleted"] = log(store, ids["deleted"], "of deleted")
    ids["of broken"] = log(store, ids["broken"], "of broken")
    store.log_metric(ids["plain"], Metric("nan", math.nan, 1, 1))
    store.log_metric(ids["plain"], Metric("inf", math.inf, 1, 1))
    of_dataset = Metric("of dataset", 0.5, 1, 3, dataset_name="prices", dataset_digest="2981c147")
    store.log_metric(ids["plain"], of_dataset)
    store.delete_run(ids["gone"])
    store.delete_experiment(ids["deleted"])
    model = store.create_logged_model(ids["workflow"], "model", ids["plain"])
    ids["model"] = model.model_id
    info = TraceInfo(
        trace_id="tr-1",
        trace_location=TraceLocation.from_experiment_id(ids["workflow"]),
        request_time=1,
        state=TraceState.OK,
        tags={"k": "ü"},
        trace_metadata={"m": "v"},
    )
    store.start_trace(info)
    registry = Registry(str(path))
    registry.create_registered_model("momentum")
    for _ in range(3):
        registry.create_model_version("momentum", "s3://elsewhere", ids["plain"])
    registry.set_registered_model_alias("momentum", "champion", "2")
    artifacts = folder.run("plain") / "artifacts"
    artifacts.mkdir(exist_ok=True)
    (artifacts / "pred.txt").write_text("predicted")
    return folder


def damage(folder: Folder) -> None:
    """What crashes, copies and editors leave behind."""
    meta = folder.path / folder.ids["nameless"] / "meta.yaml"
    content = yaml.safe_load(meta.read_text())
    meta.write_text(yaml.safe_dump(content | {"name": None}))
    (folder.path / folder.ids["broken"] / "meta.yaml").write_text("name: [")
    (folder.run("damaged") / "meta.yaml").write_text("")
    (folder.run("no meta") / "meta.yaml").unlink()
    with (folder.run("cut off") / "metrics" / "ic" / "mean").open("a") as file:
        file.write("1000000000009 0.")  # this one is right
        file.write("\n10000000\n")
    with (folder.run("twice") / "metrics" / "ic" / "mean").open("a") as file:
        file.write(f"{10**12} 0.0 0\n")
    (folder.run("plain") / "tags" / "latin").write_bytes(b"gr\xf6\xdfe")
    (folder.run("plain") / "params" / "nul").write_bytes(b"a\0b")
    (folder.run("plain") / "params" / "link").symlink_to(folder.path.parent)
    metrics = folder.path / folder.ids["workflow"] / "models" / folder.ids["model"] / "metrics"
    metrics.mkdir(exist_ok=True)
    (metrics / "ic").write_text(f"1 0.5 0 {folder.ids['plain']} my prices 2981c147\n")
    (folder.run("plain") / "params" / "long").write_text("x" * 9000)
    (folder.path / "models" / "momentum" / "version-3" / "meta.yaml").write_text("{")
    trash = folder.path / ".trash" / folder.ids["deleted"] / "meta.yaml"
    content = yaml.safe_load(trash.read_text())
    trash.write_text(yaml.safe_dump(content | {"name": "workflow"}))  # made again under its name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        made = fill(tmp_path_factory.mktemp("files") / "mlruns")
        damage(made)
        yield made


@pytest.fixture(scope="module")
def imported(
    folder: Folder, new_database: Callable[..., AbstractContextManager[DatabaseURI]]
) -> Iterator[MlflowClient]:
    with new_database() as uri:
        with db.connect(uri, autocommit=True) as conn:
            db.ensure(conn, uri)
            import_from(str(folder.path), conn, on_note=folder.notes.append)
        yield MlflowClient(uri.url, uri.url)


def test_experiments_get_ids_that_fit_and_keep_the_old_ones_as_tags(
    folder: Folder, imported: MlflowClient
) -> None:
    experiments = imported.search_experiments(ViewType.ALL)
    by_old_id = {each.tags.get(OLD_ID): each for each in experiments}
    assert set(by_old_id) == {None} | {
        folder.ids[name] for name in ("workflow", "deleted", "nameless")
    }
    assert all(int(each.experiment_id) < 2**31 for each in experiments)
    assert by_old_id[folder.ids["workflow"]].name == "workflow"
    assert by_old_id[folder.ids["nameless"]].name == f"experiment_{folder.ids['nameless']}"
    deleted = by_old_id[folder.ids["deleted"]]
    assert (deleted.name, deleted.lifecycle_stage) == (
        f"workflow ({folder.ids['deleted']})",
        "deleted",
    )
    assert int(imported.create_experiment("next")) not in {
        int(each.experiment_id) for each in experiments
    }


def test_runs_are_what_they_were(folder: Folder, imported: MlflowClient) -> None:
    for name in ("plain", "child", "gone", "twice", "of nameless", "of deleted"):
        run = imported.get_run(folder.ids[name])
        assert run.info.run_name == name
        assert run.info.lifecycle_stage == (
            "deleted" if name in ("gone", "of deleted") else "active"
        )
        assert (run.data.params["p"], run.data.tags["a/b"]) == ("ß", "ü")
        history = imported.get_metric_history(folder.ids[name], "ic/mean")
        assert [(m.step, m.timestamp, m.value) for m in history] == [
            (step, 10**12 + step, step / 7) for step in range(5)
        ]
    plain = imported.get_run(folder.ids["plain"]).data
    assert math.isnan(plain.metrics["nan"])
    assert plain.metrics["inf"] == pytest.approx(1.7976931348623157e308)  # as MLflow stores it
    assert len(plain.params["long"]) == 8000
    [point] = imported.get_metric_history(folder.ids["plain"], "of dataset")
    assert (point.value, point.step) == (0.5, 3)


def test_models_traces_and_artifacts_are_reachable(folder: Folder, imported: MlflowClient) -> None:
    run = imported.get_run(folder.ids["plain"])
    mlflow.set_tracking_uri(imported.tracking_uri)
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/pred.txt") == "predicted"
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/pred.txt") == "predicted"
    version = imported.get_model_version_by_alias("momentum", "champion")
    assert (int(version.version), version.run_id) == (2, folder.ids["plain"])
    model = imported.get_logged_model(folder.ids["model"])
    assert model.experiment_id == run.info.experiment_id
    [trace] = imported.search_traces([run.info.experiment_id], include_spans=False)
    assert (trace.info.trace_id, trace.info.tags["k"]) == ("tr-1", "ü")


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("{broken}", "left out: the experiment has no readable meta.yaml, with .* folders below"),
        ("{nameless}", "has no name"),
        (".trash/{deleted}", "another experiment has its name"),
        ("{damaged}", "left out: the meta.yaml of the run is empty"),
        ("{no meta}", "left out: the run has no readable meta.yaml"),
        ("{cut off}/metrics/ic/mean", "line 7 left out"),
        ("{plain}/tags/latin", "left out: .*utf-8"),
        ("{plain}/params/link", "left out: it is no regular file, or a link out of its folder"),
        ("Skipping malformed logged model metric line in ic", "1 0.5 0 .* my prices 2981c147"),
        ("{plain}/params/nul", "left out: PostgreSQL has no text with NUL"),
        ("{plain}/params/long", "cut to 8,000 of 9,000 characters"),
        ("models/momentum/version-3", "left out: the model version has no readable meta.yaml"),
    ],
)
def test_everything_that_is_left_out_or_changed_is_named(
    folder: Folder, imported: MlflowClient, place: str, reason: str
) -> None:
    end = place.format(**folder.ids)
    notes = [line for line in folder.notes if "its id is" not in line]
    [note] = [line for line in notes if line.split(": ")[0].endswith(end)]
    assert re.search(reason, note)


def test_nothing_else_is_noted(folder: Folder, imported: MlflowClient) -> None:
    others = [line for line in folder.notes if "its id is" not in line]
    assert len(others) == 12, others


def test_a_folder_without_experiments_is_refused(database: DatabaseURI, tmp_path: Path) -> None:
    with db.connect(database, autocommit=True) as conn:
        with pytest.raises(ImportFailed, match=r"no experiment of a file store\Z"):
            import_from(str(tmp_path), conn)
        (tmp_path / "mlflow.db").touch()
        with pytest.raises(ImportFailed, match=r"name the database, sqlite:///.*/mlflow\.db"):
            import_from(str(tmp_path), conn)
        (tmp_path / "meta.yaml").touch()
        with pytest.raises(ImportFailed, match=r"is one experiment or run .* name the folder"):
            import_from(str(tmp_path), conn)


@pytest.mark.slow  # MLflow's migrations on sqlite
def test_the_file_that_mlflow_migrate_filestore_makes_is_imported(
    database: DatabaseURI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.fs2db import migrate

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    folder = fill(tmp_path / "mlruns")
    url = f"sqlite:///{tmp_path}/mlflow.db"
    migrate(tmp_path, url, progress=False)
    with db.connect(database, autocommit=True) as conn:
        dry = import_from(url, conn, dry_run=True)
        assert conn.execute("SELECT count(*) FROM runs").fetchone() == (0,)
        assert import_from(url, conn, on_note=folder.notes.append) == dry
    client = MlflowClient(database.url, database.url)
    experiment = client.get_experiment_by_name("workflow")
    assert experiment.tags[OLD_ID] == folder.ids["workflow"]
    run = client.get_run(folder.ids["plain"])
    assert run.info.experiment_id == experiment.experiment_id
    assert client.get_logged_model(folder.ids["model"]).experiment_id == experiment.experiment_id
    assert len(folder.notes) == 4


ALIASES = "name: &a0 x\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize("text", [ALIASES, "a: " + "[" * 5_000, "a: {" * 5_000])
def test_yaml_that_stands_for_much_more_is_no_meta(text: str) -> None:
    with pytest.raises(ValueError, match=r"alias|nested"):
        file_store.load_meta(text)


@pytest.fixture
def hostile(tmp_path: Path) -> Folder:
    """A file store with a good run, and one that leads out of the folder."""
    store, folder = FileStore(str(tmp_path / "mlruns")), Folder(tmp_path / "mlruns")
    experiment = store.create_experiment("e")
    for name in ("good", "bad"):
        folder.ids[name] = log(store, experiment, name)
    (tmp_path / "private").write_text("secret")
    return folder


def view_of(folder: Folder) -> Path:
    root = folder.path.parent / "view" / "root"
    root.mkdir(parents=True)
    file_store.build_view(folder.path, root, folder.notes.append)
    return root


@pytest.mark.parametrize("run_id", ["../../../escaped", "/tmp/escaped", ["a"], "a/b", ".."])
def test_a_run_whose_id_is_a_path_is_left_out(hostile: Folder, run_id: object) -> None:
    meta = hostile.run("bad") / "meta.yaml"
    meta.write_text(yaml.safe_dump(yaml.safe_load(meta.read_text()) | {"run_uuid": run_id}))
    before = set(hostile.path.parent.iterdir())
    root = view_of(hostile)
    assert [path.name for path in root.glob("*/*/meta.yaml")] == ["meta.yaml"]
    assert set(hostile.path.parent.iterdir()) - before == {root.parent}
    assert any("is no id of a run" in note for note in hostile.notes)


def test_links_out_of_a_run_and_pipes_are_not_read(hostile: Folder) -> None:
    run, private = hostile.run("bad"), hostile.path.parent / "private"
    (run / "params" / "stolen").symlink_to(private)
    (run / "tags" / "loop").symlink_to("loop")
    os.mkfifo(run / "metrics" / "pipe")
    (run / "inputs" / "x").mkdir(parents=True)
    os.mkfifo(run / "inputs" / "x" / "meta.yaml")
    root = view_of(hostile)
    [copied] = root.glob(f"*/{hostile.ids['bad']}")
    names = {path.name for path in copied.rglob("*")}
    assert {"p", "meta.yaml"} <= names
    assert not {"stolen", "loop", "pipe", "x"} & names
    assert any("inputs" in note and "no file of its folder" in note for note in hostile.notes)


def test_a_model_version_whose_tags_lead_out_of_it_is_left_out(hostile: Folder) -> None:
    model = hostile.path / "models" / "momentum"
    for name in ("version-1", "version-2"):
        (model / name / "tags").mkdir(parents=True)
        (model / name / "meta.yaml").write_text(f"version: {name[-1]}")
    (model / "meta.yaml").write_text("name: momentum")
    (model / "version-2" / "tags" / "stolen").symlink_to(hostile.path.parent / "private")
    root = view_of(hostile)
    assert [path.name for path in root.glob("models/momentum/version-*")] == ["version-1"]
    assert any("'stolen' is no file of its folder" in note for note in hostile.notes)
