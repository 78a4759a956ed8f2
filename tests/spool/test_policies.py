"""What a full spool does, what counts as its bytes, and when a record is on the disk."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.spools import fill, record, refuse, segments, sent

from mlflow_timescale.db import DatabaseURI, InvalidURI
from mlflow_timescale.spool import Drained, Record, Spool, SpoolError, SpoolFull, folder
from mlflow_timescale.spool.places import spool_of


def test_a_full_spool_raises(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", limit=300, fsync="os")
    with pytest.raises(SpoolFull, match="300 bytes"):
        fill(spool, 10)
    before = spool.status().waiting
    assert before > 1
    assert sent(spool) == list(range(before))
    spool.append(record(0))


def test_a_full_spool_drops_what_waits_longest_and_counts_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", limit=400, full="drop-oldest", fsync="os")
    fill(spool, 20)
    status = spool.status()
    assert status.bytes <= 400
    assert status.dropped + status.waiting == 20
    assert sent(spool) == list(range(status.dropped, 20))


def test_a_full_spool_blocks_until_it_is_drained(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", limit=300, full="block", fsync="os")
    thread = threading.Thread(target=fill, args=[spool, 10], daemon=True)
    thread.start()
    received: list[int] = []
    while thread.is_alive() or not spool.is_empty():
        spool.drain(lambda record: received.append(int(record.body)) is None)
    assert received == list(range(10))


def test_a_full_spool_drops_none_that_must_be_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", limit=2000, full="drop-oldest", fsync="os")
    for number in range(60):
        spool.append(replace(record(number), is_kept=number % 10 == 0))
    status = spool.status()
    assert status.bytes <= 2000
    assert status.dropped + status.waiting == 60
    numbers = sent(spool)
    assert numbers == sorted(numbers)
    assert {0, 10, 20, 30, 40, 50, 59} <= set(numbers)


def test_a_full_spool_of_kept_records_raises(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", limit=400, full="drop-oldest", fsync="os")
    with pytest.raises(SpoolFull):
        fill(spool, 20, kept=True)
    numbers = sent(spool)
    assert numbers == list(range(len(numbers)))


def test_records_are_dropped_while_others_are_sent(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", limit=2000, full="drop-oldest", fsync="os")
    received: list[int] = []

    def send(entry: Record) -> bool:
        number = int(entry.body)
        received.append(number)
        if number < 3:
            for more in range(50):
                spool.append(record(1000 * (number + 1) + more))
        return True

    for number in range(3):
        spool.append(replace(record(number), is_kept=True))
    spool.drain(send)
    assert received[:3] == [0, 1, 2]
    assert received == sorted(set(received))
    assert received[-1] == 3049
    assert spool.status().dropped + len(received) == 153


def test_a_file_waits_with_its_record_and_counts(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", limit=10_000, fsync="os")
    file = tmp_path / "weights"
    file.write_bytes(b"w" * 5000)
    spool.append(replace(record(1), file=file))
    file.write_bytes(b"changed")
    assert spool.status().bytes > 5000
    file.write_bytes(b"w" * 6000)
    with pytest.raises(SpoolFull):
        spool.append(replace(record(2), file=file))
    contents: list[bytes] = []

    def send(entry: Record) -> bool:
        assert entry.file is not None
        contents.append(entry.file.read_bytes())
        return True

    assert spool.drain(send) == Drained(1, 0, 0)
    assert contents == [b"w" * 5000]
    assert spool.status().bytes == 0
    assert list(spool.path.glob("file-*")) == []


def test_the_file_of_a_refused_record_stays_and_waits_no_longer(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", fsync="os")
    file = tmp_path / "weights"
    file.write_bytes(b"w")
    spool.append(replace(record(1), file=file))
    assert spool.drain(refuse) == Drained(0, 0, 1)
    assert spool.is_empty()
    assert spool.status().bytes == 0
    assert [path.read_bytes() for path in spool.path.glob("file-*")] == [b"w"]


@pytest.mark.parametrize("options", [{"full": "wait"}, {"fsync": "never"}, {"limit": 0}])
def test_unknown_policies_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Spool(tmp_path, **options)  # type: ignore[arg-type]


def test_a_disk_that_is_full_leaves_no_half_of_a_record(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(spool, 2)
    write = folder.write_all

    def fail(descriptor: int, content: bytes) -> None:
        write(descriptor, content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "write_all", fail)
    with pytest.raises(SpoolError, match="No space"):
        spool.append(record(2))
    monkeypatch.setattr(folder, "write_all", write)
    fill(spool, 1, 3)
    assert sent(spool) == [0, 1, 3]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A disk on which no file can grow."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(folder, "write_all", fail)
        yield


def test_a_full_disk_drops_metrics_and_counts_them_as_a_full_spool_does(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    spool = Spool(tmp_path / "s", full="drop-oldest", fsync="os")
    fill(spool, 2)
    (tmp_path / "model").write_bytes(b"weights")
    request.getfixturevalue("full_disk")
    spool.append(record(2))
    with pytest.raises(SpoolError, match=r"s: No space left on device; make room"):
        spool.append(replace(record(3), is_kept=True))
    with pytest.raises(SpoolError, match="make room"):
        spool.append(replace(record(4), is_kept=True, file=tmp_path / "model"))
    status = spool.status()
    assert (status.waiting, status.dropped) == (2, 1)
    assert status.bytes == sum(path.stat().st_size for path in segments(spool))


def test_a_spool_on_a_full_disk_is_drained(small: Spool, request: pytest.FixtureRequest) -> None:
    fill(small, 9)
    request.getfixturevalue("full_disk")
    assert sent(small) == list(range(9))
    assert small.is_empty()
    assert small.status().sent == 9


@pytest.mark.parametrize("option", ["spool_full=wait", "spool_fsync=never", "spool_limit=many"])
def test_a_policy_that_does_not_exist_is_an_error_of_the_uri(option: str) -> None:
    with pytest.raises(InvalidURI, match=option.partition("=")[2]):
        spool_of(DatabaseURI.parse(f"timescaledb://host/trading?spool=/s&{option}"))


@pytest.mark.parametrize(("fsync", "is_synced"), [("always", True), ("os", False)])
def test_a_record_is_on_the_disk_before_append_returns_where_the_policy_states_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: str, is_synced: bool
) -> None:
    synced: list[str] = []
    fdatasync = os.fdatasync

    def noting(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", noting)
    spool = Spool(tmp_path / "spool", fsync=fsync)
    spool.append(record(1))
    spool.append(record(2))
    assert synced.count(segments(spool)[0].name) == (2 if is_synced else 0)


def test_a_tracking_server_has_no_spool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    uri = DatabaseURI.parse(f"timescaledb://host/trading?spool={tmp_path}/spool")
    assert spool_of(uri) is not None
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "timescaledb-artifacts:/")
    assert spool_of(uri) is None
