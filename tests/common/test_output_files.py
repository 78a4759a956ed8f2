"""Files that commands write, in folders where others may have put a link."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from pathlib import Path

import pytest

from mlflow_timescale.common.output_files import replacing

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two accounts")


def write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write_text(text)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write(path, "old")
    with replacing(path) as file:
        file.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write(path, "old")
    with suppress(KeyboardInterrupt), replacing(path) as file:
        file.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_of_ones_own_and_a_device_are_written_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write(tmp_path / "link", "text")
    assert (tmp_path / "file").read_text() == "text"
    write(Path("/dev/null"), "text")
    assert not Path("/dev/null").is_file()


@as_root
def test_a_link_of_another_account_is_replaced_and_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "passwd"
    secret.write_text("root")
    link = tmp_path / "report.html"
    link.symlink_to(secret)
    os.lchown(link, pwd.getpwnam("daemon").pw_uid, -1)
    write(link, "text")
    assert (secret.read_text(), link.read_text()) == ("root", "text")
