"""Downloads into folders in which another account may have put something."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlflow_timescale.artifacts import placing
from mlflow_timescale.artifacts.placing import make_stage, move_into
from mlflow_timescale.db.uri import DatabaseURI

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two accounts")


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A verified download: the files `model/weights` and `note`."""
    stage = tmp_path / "stage"
    (stage / "model").mkdir(parents=True)
    (stage / "model" / "weights").write_text("weights")
    (stage / "note").write_text("note")
    return stage


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in files}


@pytest.mark.parametrize("is_same_file_system", [True, False])
def test_a_download_is_merged_into_what_is_there(
    stage: Path, target: Path, is_same_file_system: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (target / "model").mkdir()
    (target / "model" / "kept").write_text("kept")
    (target / "note").write_text("old")
    if not is_same_file_system:
        rename = os.replace

        def replace(source, to, *, src_dir_fd=None, dst_dir_fd=None) -> None:
            if src_dir_fd is None:
                raise OSError(18, os.strerror(18))
            rename(source, to, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

        monkeypatch.setattr(placing.os, "replace", replace)
    move_into(stage, target)
    assert contents(target) == {"model/weights": "weights", "model/kept": "kept", "note": "note"}
    assert not stage.exists()


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(
    stage: Path, target: Path, tmp_path: Path
) -> None:
    (tmp_path / "passwd").write_text("root")
    (target / "note").symlink_to(tmp_path / "passwd")
    move_into(stage, target)
    assert (tmp_path / "passwd").read_text() == "root"
    assert not (target / "note").is_symlink()


def test_a_link_of_ones_own_in_the_place_of_a_folder_is_followed(
    stage: Path, target: Path, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (target / "model").symlink_to(tmp_path / "disk")
    move_into(stage, target)
    assert contents(tmp_path / "disk") == {"weights": "weights"}


@as_root
def test_a_link_of_another_account_in_the_place_of_a_folder_is_refused(
    stage: Path, target: Path, tmp_path: Path
) -> None:
    (tmp_path / "etc").mkdir()
    (target / "model").symlink_to(tmp_path / "etc")
    os.lchown(target / "model", pwd.getpwnam("daemon").pw_uid, -1)
    with pytest.raises(MlflowException, match="is a symbolic link of user id"):
        move_into(stage, target)
    with pytest.raises(MlflowException, match="is a symbolic link of user id"):
        make_stage(str(target / "model"))
    assert contents(tmp_path / "etc") == {}


@as_root
def test_unverified_files_do_not_arrive_where_another_account_can_exchange_them(
    target: Path,
) -> None:
    assert make_stage(str(target)).parent == target
    target.chmod(0o777)
    assert make_stage(str(target)).parent != target
    target.chmod(0o755)
    os.chown(target, pwd.getpwnam("daemon").pw_uid, -1)
    assert make_stage(str(target)).parent != target


@as_root
def test_a_run_is_downloaded_into_the_folder_of_another_account(
    tracking: DatabaseURI, target: Path, tmp_path: Path
) -> None:
    client = MlflowClient(tracking.url)
    run = client.create_run(client.create_experiment("momentum"))
    client.log_text(run.info.run_id, "weights", "model/weights")
    os.chown(target, pwd.getpwnam("daemon").pw_uid, -1)
    client.download_artifacts(run.info.run_id, "model", str(target))
    assert contents(target) == {"model/weights": "weights"}
    (target / "evil").symlink_to(tmp_path)
    os.lchown(target / "evil", pwd.getpwnam("daemon").pw_uid, -1)
    with pytest.raises(MlflowException, match="symbolic link"):
        client.download_artifacts(run.info.run_id, "model", str(target / "evil"))
