"""The state of a directory in git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mlflow_timescale.common import git


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    def run(*arguments: str) -> None:
        identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)

    run("init", "-q")
    (tmp_path / "a.txt").write_text("1")
    run("add", "a.txt")
    run("commit", "-qm", "first")
    git.version.cache_clear()
    return tmp_path


def test_a_clean_directory_is_its_commit(repository: Path) -> None:
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=repository, text=True)
    assert git.version(repository) == commit.strip()
    assert git.is_dirty(repository) is False


def test_a_changed_file_makes_it_dirty(repository: Path) -> None:
    (repository / "a.txt").write_text("2")
    assert str(git.version(repository)).endswith("-dirty")
    assert git.is_dirty(repository) is True


def test_a_file_that_git_does_not_track_does_not(repository: Path) -> None:
    (repository / "b.txt").write_text("2")
    assert git.is_dirty(repository) is False


def test_outside_of_git_there_is_no_state(tmp_path: Path) -> None:
    git.version.cache_clear()
    assert git.version(tmp_path) is None
    assert git.is_dirty(tmp_path) is None


def test_without_git_there_is_no_state(repository: Path, monkeypatch) -> None:
    git.version.cache_clear()
    monkeypatch.setenv("PATH", "")
    assert git.version(repository) is None
