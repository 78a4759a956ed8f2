"""Artifacts of what is brought: each arrives once, whole, also when it is new later."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import mlflow
import pytest
from click.testing import CliRunner
from mlflow.entities import Param
from support.bringing import Source, Target

from mlflow_timescale.cli import cli
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.bringing import files

NewDatabase = Callable[..., AbstractContextManager[DatabaseURI]]
pytestmark = pytest.mark.slow  # MLflow's migrations on sqlite take 10 s


def test_artifacts_are_copied_into_the_ledger_or_linked(folder: Path, target: Target) -> None:
    from mlflow.store.tracking.file_store import FileStore

    store = FileStore(str(folder))
    experiment = store.create_experiment("with files")
    runs = [store.create_run(experiment, "me", 1, [], name).info.run_id for name in "ab"]
    for run in runs:
        place = folder / experiment / run / "artifacts" / "sub"
        place.mkdir(parents=True)
        (place / "pred.txt").write_text(f"of {run}")
    moved = folder.rename(folder.parent / "copied from the cluster")
    mlflow.set_tracking_uri(target.uri.url)
    CliRunner().invoke(cli, ["import", str(moved), "--uri", target.uri.url], catch_exceptions=False)
    assert mlflow.artifacts.load_text(f"runs:/{runs[0]}/sub/pred.txt") == f"of {runs[0]}"
    words = ["sync", str(moved), "--artifacts", "--json", "--uri", target.uri.url]
    result = json.loads(CliRunner().invoke(cli, words, catch_exceptions=False).stdout)
    assert (result["files"], result["skipped"]) == (2, {})
    shutil.rmtree(moved / experiment)
    for run in runs:
        assert target.client.get_run(run).info.artifact_uri.startswith("timescaledb-artifacts:")
        assert mlflow.artifacts.load_text(f"runs:/{run}/sub/pred.txt") == f"of {run}"
    kept = target.rows(
        f"SELECT run_id, size_bytes FROM mlops.model_artifacts WHERE run_id IN {tuple(runs)}"
    )
    assert sorted(kept) == sorted((run, 35) for run in runs)


def call(target: Target, source: Path | str, *words: str, command: str = "sync") -> dict[str, Any]:
    """Run a command with --artifacts; what it prints as JSON."""
    every = [command, str(source), "--artifacts", "--json", "--uri", target.uri.url, *words]
    return dict(json.loads(CliRunner().invoke(cli, every, catch_exceptions=False).stdout))


def runs_with_files(folder: Path, experiment: str, runs: int, files: int) -> dict[str, bytes]:
    """Make runs in a file store; the bytes of each file by `run/path`."""
    from mlflow.store.tracking.file_store import FileStore

    store = FileStore(str(folder))
    number = store.create_experiment(experiment)
    contents = {}
    for _ in range(runs):
        run = store.create_run(number, "me", 1, [], "run").info.run_id
        for each in range(files):
            path = folder / number / run / "artifacts" / "sub" / f"{each}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(20_000))
            contents[f"{run}/sub/{each}.bin"] = path.read_bytes()
    return contents


def kept(target: Target, contents: dict[str, bytes]) -> dict[str, bytes]:
    """What can be downloaded of these files."""
    mlflow.set_tracking_uri(target.uri.url)
    here = {}
    for run in {name.partition("/")[0] for name in contents}:
        root = Path(mlflow.artifacts.download_artifacts(f"runs:/{run}/"))
        for path in root.rglob("*"):
            if path.is_file():
                here[f"{run}/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    return here


def ledger_of(target: Target, contents: dict[str, bytes]) -> list[tuple[str, str, int]]:
    """Run, path and number of rows ever, of these runs in the ledger."""
    runs = tuple({name.partition("/")[0] for name in contents})
    return target.rows(
        "SELECT run_id, artifact_path, count(*) FROM mlops.model_artifacts"
        f" WHERE run_id IN {runs} GROUP BY 1, 2"
    )


def test_the_spans_of_traces_come_with_the_artifacts_of_a_file_store(
    folder: Path, target: Target
) -> None:
    from mlflow.store.tracking.file_store import FileStore

    mlflow.set_tracking_uri(f"file://{folder}")
    mlflow.set_experiment("traced")
    with mlflow.start_span("predict") as span:
        span.set_inputs({"day": "2024-01-15"})
    mlflow.flush_trace_async_logging()
    experiment = FileStore(str(folder)).get_experiment_by_name("traced").experiment_id
    moved = folder.rename(folder.parent / "copied from the cluster")
    assert call(target, moved)["files"] == 1
    assert call(target, moved)["files"] == 0
    copy = shutil.copytree(moved, folder.parent / "another copy")
    shutil.rmtree(moved)
    (copy / experiment / "traces" / span.trace_id / "tags" / "k").write_text("v")
    (copy / experiment / "traces" / span.trace_id / "artifacts" / "traces.json").touch()
    assert call(target, copy, "--dry-run")["files"] == 0  # by its content it is here
    assert call(target, copy)["tables"]["trace_tags"] == 1
    shutil.rmtree(copy)
    mlflow.set_tracking_uri(target.uri.url)
    trace = mlflow.get_trace(span.trace_id)
    assert [each.inputs for each in trace.data.spans] == [{"day": "2024-01-15"}]
    assert trace.info.tags["k"] == "v"


@pytest.mark.parametrize("place", ["in the database", "behind checksums"])
def test_a_killed_copy_goes_on_and_no_file_is_lost_doubled_copied_again_or_half(
    place: str, folder: Path, target: Target, tmp_path: Path
) -> None:
    contents = runs_with_files(folder, f"killed {place}", 30, 4)
    if place == "behind checksums":
        target.client.create_experiment(f"killed {place}", f"sha256+file://{tmp_path}/kept")
    target.merge(folder, changes=True)
    program = (
        "import os, sys\n"
        "from mlflow_timescale import db\n"
        "from mlflow_timescale.artifacts import contents, ledger\n"
        "from mlflow_timescale.db.uri import DatabaseURI\n"
        "from mlflow_timescale.operations.bringing import files, merging\n"
        "uri, calls = DatabaseURI.parse(sys.argv[2]), []\n"
        "def killed_at_the_12th(function):\n"  # its bytes are there, their row is not
        "    def call(*args, **options):\n"
        "        calls.append(1)\n"
        "        if len(calls) > 11: os.kill(os.getpid(), 9)\n"
        "        return function(*args, **options)\n"
        "    return call\n"
        "ledger.record = killed_at_the_12th(ledger.record)\n"
        "contents.Writer.finish = killed_at_the_12th(contents.Writer.finish)\n"
        "with db.connect(uri, autocommit=True) as conn:\n"
        "    done = merging.merge_from(sys.argv[1], conn, changes=True)\n"
        "    owners = files.owners_of(conn, done.locations)\n"
        "files.copy_artifacts(uri, owners, jobs=4)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, str(folder), target.uri.url], capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    complete = len(ledger_of(target, contents))
    assert 0 < complete < len(contents)
    result = call(target, folder, "--jobs", "4")
    assert (result["files"], result["skipped"]) == (len(contents) - complete, {})
    assert kept(target, contents) == contents
    rows = ledger_of(target, contents)
    assert sorted(f"{run}/{path}" for run, path, _ in rows) == sorted(contents)
    assert {number for *_, number in rows} == {1}
    assert call(target, folder)["files"] == 0


def test_artifacts_that_are_new_in_the_source_come_though_the_run_has_no_other_news(
    folder: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = runs_with_files(folder, "late files", 3, 2)
    call(target, folder)
    [first, second, third] = sorted({name.partition("/")[0] for name in contents})
    [number] = [path.name for path in folder.iterdir() if (path / first).is_dir()]

    def artifact(run: str, name: str) -> Path:
        return folder / number / run / "artifacts" / "sub" / name

    artifact(first, "late.bin").write_bytes(b"late")
    artifact(second, "0.bin").write_bytes(b"changed in the source")
    mlflow.set_tracking_uri(target.uri.url)
    target.client.log_text(second, "changed here", "sub/1.bin")
    assert call(target, folder, "--dry-run")["files"] == 2
    opened = []
    target_of = files._target
    monkeypatch.setattr(files, "_target", lambda *args: opened.append(args) or target_of(*args))
    result = call(target, folder)
    assert (result["files"], result["runs"]["unchanged"], len(opened)) == (2, 3, 2)
    here = kept(target, contents)
    assert here[f"{first}/sub/late.bin"] == b"late"
    assert here[f"{second}/sub/0.bin"] == b"changed in the source"
    assert here[f"{second}/sub/1.bin"] == b"changed here"
    artifact(third, "0.bin").unlink()
    assert call(target, folder)["files"] == 0
    assert kept(target, contents).keys() == here.keys()


def test_a_run_in_conflict_or_deleted_here_keeps_its_artifacts(
    source: Source, target: Target
) -> None:
    runs = [source.run("conflict"), source.run("deleted")]
    for run in runs:
        place = Path(source.store.get_run(run).info.artifact_uri.removeprefix("file://"))
        place.mkdir(parents=True)
        (place / "theirs.txt").write_text("theirs")
    target.merge(source)
    target.client.log_param(runs[0], "q", "ours")
    source.store.log_param(runs[0], Param("q", "theirs"))
    target.client.delete_run(runs[1])
    before = [target.client.get_run(run).info.artifact_uri for run in runs]
    assert call(target, source.url)["files"] == 0
    assert [target.client.get_run(run).info.artifact_uri for run in runs] == before


def test_a_version_that_comes_later_uses_the_copy_of_its_run(
    source: Source, target: Target
) -> None:
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry

    run = source.run("trained")
    place = source.store.get_run(run).info.artifact_uri
    folder = Path(place.removeprefix("file://")) / "model"
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}")
    call(target, source.url)
    registry = Registry(source.url)
    registry.create_registered_model("copied later")
    registry.create_model_version("copied later", f"{place}/model", run)
    call(target, source.url)
    version = target.client.get_model_version("copied later", "1")
    assert version.source == f"{target.client.get_run(run).info.artifact_uri}/model"
    shutil.rmtree(folder)
    mlflow.set_tracking_uri(target.uri.url)
    local = mlflow.artifacts.download_artifacts("models:/copied later/1")
    assert Path(local, "MLmodel").read_text() == "flavors: {}"


def test_a_file_that_is_another_one_here_and_never_came_from_there_is_listed_and_stays(
    folder: Path, target: Target
) -> None:
    contents = runs_with_files(folder, "both have it", 1, 1)
    call(target, folder)
    [run] = {name.partition("/")[0] for name in contents}
    [place] = folder.glob(f"*/{run}/artifacts/sub")
    (place / "report.txt").write_text("theirs")
    mlflow.set_tracking_uri(target.uri.url)
    target.client.log_text(run, "ours", "sub/report.txt")
    for _ in range(2):
        result = call(target, folder)
        reason = "another file is here: left as it is"
        assert result["skipped"] == {f"run {run}: sub/report.txt": reason}
        assert mlflow.artifacts.load_text(f"runs:/{run}/sub/report.txt") == "ours"


def test_two_databases_that_sync_both_ways_do_not_undo_each_others_files(
    target: Target, new_database: NewDatabase
) -> None:
    with new_database() as uri:
        other = Target(uri)
        run = other.client.create_run(other.experiment("both ways")).info.run_id
        other.client.log_text(run, "first", "note.txt")
        call(target, uri.url)
        other.client.log_text(run, "second", "note.txt")
        call(other, target.uri.url)
        mlflow.set_tracking_uri(uri.url)
        assert mlflow.artifacts.load_text(f"runs:/{run}/note.txt") == "second"
        assert call(target, uri.url)["files"] == 1
    mlflow.set_tracking_uri(target.uri.url)
    assert mlflow.artifacts.load_text(f"runs:/{run}/note.txt") == "second"
