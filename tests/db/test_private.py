"""Directories and lock files in which another account may have put something."""

from __future__ import annotations

import fcntl
import os
import pwd
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from mlflow_timescale import db
from mlflow_timescale.db._accounts import FORMER
from mlflow_timescale.db._home import open_home
from mlflow_timescale.db._postgres import Cluster
from mlflow_timescale.db._private import (
    CLUSTER_DRAFT,
    close_to_others,
    hand_over,
    lock,
    make_private,
    opened,
)
from mlflow_timescale.db.uri import DatabaseURI

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two accounts")
OTHER, NOBODY = pwd.getpwnam("daemon"), pwd.getpwnam(FORMER)
ME = os.geteuid()


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that every account may enter; pytest's own are closed to all but root."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def plant_link(place: Path, secret: Path) -> None:
    place.symlink_to(secret)


def plant_hard_link(place: Path, secret: Path) -> None:
    place.hardlink_to(secret)


def plant_fifo(place: Path, secret: Path) -> None:
    os.mkfifo(place)


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (plant_link, "is a symbolic link"),
        (plant_hard_link, "has 2 names"),
        (plant_fifo, "is no regular file"),
    ],
)
@pytest.mark.parametrize("name", ["start.lock", "users.lock", "reaper.lock"])
def test_what_was_planted_as_a_lock_file_is_refused_and_untouched(
    home: Path, tmp_path: Path, name: str, plant, reason: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    secret.chmod(0o600)
    if ME == 0:
        os.chown(home, OTHER.pw_uid, OTHER.pw_gid)
    before = secret.stat()
    with suppress(OSError):  # hard links between file systems
        plant(home / name, secret)
    if not os.path.lexists(home / name):
        pytest.skip("the secret lies on another file system")
    with pytest.raises(db.EmbeddedServerError, match=f"{name} {reason}"):
        lock(home, name, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert (secret.stat().st_uid, mode(secret)) == (before.st_uid, 0o600)


@as_root
def test_a_lock_file_of_a_third_account_is_refused(home: Path) -> None:
    (home / "start.lock").touch()
    os.chown(home / "start.lock", OTHER.pw_uid, -1)
    with pytest.raises(db.EmbeddedServerError, match="belongs to daemon"):
        lock(home, "start.lock", fcntl.LOCK_SH)


@as_root
def test_only_a_lock_file_that_root_creates_is_given_to_the_owner_of_the_directory(
    home: Path,
) -> None:
    os.chown(home, OTHER.pw_uid, OTHER.pw_gid)
    (home / "start.lock").touch()
    for name in ("start.lock", "users.lock"):
        os.close(lock(home, name, fcntl.LOCK_SH))
    assert (home / "start.lock").stat().st_uid == 0
    assert (home / "users.lock").stat().st_uid == OTHER.pw_uid


def test_a_lock_file_is_closed_to_others(home: Path) -> None:
    (home / "start.lock").touch(mode=0o666)
    (home / "start.lock").chmod(0o666)
    for name in ("start.lock", "users.lock"):
        os.close(lock(home, name, fcntl.LOCK_SH))
        assert mode(home / name) == 0o600


def test_a_missing_lock_file_is_created_only_where_that_is_wanted(home: Path) -> None:
    with pytest.raises(FileNotFoundError):
        lock(home, "start.lock", fcntl.LOCK_SH, create=False)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("bits", [0o777, 0o757, 0o1777])
def test_a_directory_that_every_account_may_write_is_refused_in_one_line(
    home: Path, bits: int
) -> None:
    home.chmod(bits)
    with pytest.raises(db.EmbeddedServerError) as error:
        db.connect(DatabaseURI("postgres", embedded=home))
    assert f"run chmod o-w '{home}', or name a new directory" in str(error.value)
    assert "\n" not in str(error.value)
    assert list(home.iterdir()) == []


def test_an_embedded_directory_loses_the_right_to_write_of_its_group(home: Path) -> None:
    (home / "start.lock").touch()
    home.chmod(0o775)
    with opened(home):
        assert mode(home) == 0o755


def test_a_folder_that_a_group_shares_is_refused_and_stays_shared(home: Path) -> None:
    (home / "notes.txt").touch()
    home.chmod(0o775)
    with pytest.raises(db.EmbeddedServerError, match="writable for a group"), opened(home):
        pass
    assert mode(home) == 0o775


@as_root
def test_a_directory_of_another_account_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(home, OTHER.pw_uid, OTHER.pw_gid)
    monkeypatch.setattr("os.geteuid", lambda: NOBODY.pw_uid)
    with (
        pytest.raises(db.EmbeddedServerError, match="belongs to daemon, not to"),
        opened(home),
    ):
        pass


def test_an_open_directory_is_closed_on_every_start(home: Path) -> None:
    (home / "run").mkdir()
    (home / "run").chmod(0o777)
    with opened(home) as parent:
        close_to_others(parent, "run", [ME], path=home / "run")
    assert mode(home / "run") == 0o700


@pytest.mark.parametrize("is_link", [True, False])
def test_a_link_or_a_file_in_the_place_of_a_directory_is_refused(
    home: Path, tmp_path: Path, is_link: bool
) -> None:
    tmp_path.chmod(0o755)
    if is_link:
        (home / "run").symlink_to(tmp_path)
    else:
        (home / "run").touch()
    with (
        pytest.raises(db.EmbeddedServerError, match="run is no directory but a file or a"),
        open_home(home) as opened_home,
    ):
        opened_home.make_private("run")
    assert mode(tmp_path) == 0o755


@as_root
def test_a_directory_of_a_third_account_is_refused_with_the_remedy(home: Path) -> None:
    os.chown(home, OTHER.pw_uid, OTHER.pw_gid)
    (home / "run").mkdir()
    for owner in (0, NOBODY.pw_uid):
        os.chown(home / "run", owner, -1)
        with (
            pytest.raises(db.EmbeddedServerError, match=f"run chown -R daemon '{home}/run'"),
            open_home(home) as opened_home,
        ):
            opened_home.make_private("run")
        assert (home / "run").stat().st_uid == owner


@as_root
def test_root_makes_and_removes_files_in_another_directory_as_its_owner(
    home: Path, tmp_path: Path
) -> None:
    """Whatever the owner has put there: it leads no further than the owner could go."""
    os.chown(home, OTHER.pw_uid, OTHER.pw_gid)
    (tmp_path / "kept").touch()
    (home / f"{CLUSTER_DRAFT}old").symlink_to(tmp_path)
    with open_home(home) as opened_home:
        name = opened_home.draft(CLUSTER_DRAFT)
        assert (home / name).stat().st_uid == OTHER.pw_uid
        assert mode(home / name) == 0o700
        opened_home.remove(name)
    assert (tmp_path / "kept").exists()
    assert list(home.iterdir()) == []


@as_root
def test_nothing_but_the_files_of_one_account_is_handed_over(home: Path, tmp_path: Path) -> None:
    data = home / "postgres"
    (data / "base").mkdir(parents=True)
    for name in ("base/1", "base/2", "of_root"):
        (data / name).touch()
    secret = home / "secret"
    secret.touch()
    (data / "link").symlink_to(secret)
    (data / "base/hard").hardlink_to(secret)
    os.mkfifo(data / "fifo")
    for path in (data, data / "base", data / "base/1", data / "base/2", data / "fifo"):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    with opened(home) as parent:
        hand_over(parent, "postgres", NOBODY.pw_uid, OTHER)
    given = {p.name for p in (data, *data.rglob("*")) if p.lstat().st_uid == OTHER.pw_uid}
    assert given == {"postgres", "base", "1", "2"}
    assert (secret.stat().st_uid, (data / "of_root").stat().st_uid) == (0, 0)


def test_a_directory_in_tmp_is_private_and_no_link(tmp_path: Path) -> None:
    make_private(tmp_path / "run", [ME])
    assert mode(tmp_path / "run") == 0o700
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with pytest.raises(db.EmbeddedServerError, match="symbolic link"):
        make_private(tmp_path / "link", [ME])


@as_root
def test_a_server_of_another_account_on_the_socket_is_not_trusted(directory: Path) -> None:
    os.chown(directory, OTHER.pw_uid, OTHER.pw_gid)
    sockets = Cluster(directory).socket_directory
    sockets.mkdir()
    os.chown(sockets, OTHER.pw_uid, OTHER.pw_gid)
    with closing(socket.socket(socket.AF_UNIX)) as planted:
        planted.bind(str(sockets / ".s.PGSQL.5432"))
        planted.listen()
        with pytest.raises(db.ConnectionFailed, match="requirepeer"):
            db.connect(DatabaseURI("postgres", embedded=directory))
