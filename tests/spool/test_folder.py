"""The folder of a spool belongs to its owner alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.spools import fill, record, refuse, sent

from mlflow_timescale.db import DatabaseURI
from mlflow_timescale.spool import Spool, SpoolError
from mlflow_timescale.spool.places import reserve


def fill_and_drain(spool: Spool) -> None:
    fill(spool, 1, 2)
    sent(spool)


def test_only_the_owner_can_read_a_spool(spool: Spool) -> None:
    spool.append(record(1))
    spool.drain(refuse)
    modes = {path.name: path.stat().st_mode & 0o777 for path in spool.path.iterdir()}
    assert set(modes.values()) == {0o600}
    assert spool.path.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpoolError, match="name a folder"):
        Spool(tmp_path / "link").append(record(1))
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("name", ["segment-0000000001", "append.lock", "state.json.new"])
def test_a_file_that_is_a_link_is_refused(spool: Spool, tmp_path: Path, name: str) -> None:
    spool.append(record(1))
    target = tmp_path / "target"
    target.write_text("mine")
    (spool.path / name).unlink(missing_ok=True)
    (spool.path / name).symlink_to(target)
    with pytest.raises(SpoolError):
        fill_and_drain(spool)
    assert target.read_text() == "mine"


def test_a_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(SpoolError, match="777"):
        Spool(shared).append(record(1))


def test_a_folder_holds_the_records_of_one_database(spool: Spool) -> None:
    first, second = (DatabaseURI.parse(f"timescaledb://host/{name}") for name in ("a", "b"))
    reserve(spool, first)
    reserve(spool, second)
    fill(spool, 1)
    reserve(spool, second)
    with pytest.raises(SpoolError, match=r"wait for the database host:5432/b, not for .*/a: name"):
        reserve(spool, first)
    assert sent(spool) == [0]
    reserve(spool, first)
