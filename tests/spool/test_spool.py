"""What is appended to a spool is sent in order, and what is damaged or refused is not lost."""

from __future__ import annotations

import doctest
import os
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

import mlflow_timescale.spool.drainer
import mlflow_timescale.spool.outages
import mlflow_timescale.spool.patience
import mlflow_timescale.spool.places
import mlflow_timescale.spool.records
import mlflow_timescale.spool.sending
import mlflow_timescale.spool.spool
import mlflow_timescale.spool.state
from mlflow_timescale.db import DatabaseURI, InvalidURI
from mlflow_timescale.spool import (
    Drained,
    Record,
    Refusal,
    Sender,
    Spool,
    SpoolBusy,
    SpoolError,
    SpoolFull,
)
from mlflow_timescale.spool import spool as module
from mlflow_timescale.spool.places import spool_of
from mlflow_timescale.spool.records import Frame, encode
from mlflow_timescale.spool.sending import Sending


def record(number: int, size: int = 4) -> Record:
    return Record("test", str(number), str(number).zfill(size).encode())


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", fsync="os")


@pytest.fixture
def small(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> Spool:
    """A spool whose segments hold two records."""
    spool._segment_bytes = 100
    return spool


def sent(spool: Spool) -> list[int]:
    bodies: list[int] = []
    spool.drain(lambda record: bodies.append(int(record.body)) is None)
    return bodies


def fill(spool: Spool, count: int, first: int = 0, *, kept: bool = False) -> None:
    for number in range(first, first + count):
        spool.append(replace(record(number), is_kept=kept))


def fill_and_drain(spool: Spool) -> None:
    fill(spool, 1, 2)
    sent(spool)


def segments(spool: Spool) -> list[Path]:
    return sorted(spool.path.glob("segment-*"))


def test_records_are_sent_in_order_across_segments(small: Spool) -> None:
    fill(small, 9)
    assert len(segments(small)) > 2
    assert sent(small) == list(range(9))
    assert small.is_empty()
    assert len(segments(small)) <= 1
    fill(small, 3, 9)
    assert sent(small) == [9, 10, 11]


def test_a_sender_that_fails_keeps_the_record_and_those_after_it(spool: Spool) -> None:
    fill(spool, 5)
    received: list[int] = []

    def send(record: Record) -> bool:
        if int(record.body) == 3 and len(received) == 3:
            raise ConnectionError("away")
        received.append(int(record.body))
        return True

    with pytest.raises(ConnectionError):
        spool.drain(send)
    assert spool.status().waiting == 2
    received.append(-1)
    assert spool.drain(send) == Drained(2, 0, 0)
    assert received == [0, 1, 2, -1, 3, 4]


def test_what_is_refused_goes_to_a_list_and_blocks_nothing(small: Spool) -> None:
    fill(small, 6)

    def send(record: Record) -> bool:
        if int(record.body) in (1, 4):
            raise Refusal(f"no {record.record_id}")
        return True

    assert small.drain(send) == Drained(4, 0, 2)
    refused = small.status().refused
    assert [(entry.record.body, entry.reason) for entry in refused] == [
        (b"0001", "no 1"),
        (b"0004", "no 4"),
    ]
    fill(small, 2, 6)
    assert sent(small) == [6, 7]
    assert len(small.status().refused) == 2


def test_a_part_of_a_record_at_the_end_is_no_record(spool: Spool) -> None:
    fill(spool, 3)
    [segment] = segments(spool)
    whole = segment.read_bytes()
    for cut in range(1, 40):
        segment.write_bytes(whole[:-cut])
        other = Spool(spool.path, fsync="os")
        other.append(record(7))
        assert sent(other)[-1] == 7
        assert other.status().damaged == []
        for path in spool.path.glob("*"):
            path.unlink()
        segment.write_bytes(whole)


def test_an_append_notices_that_another_process_was_killed_within_one(spool: Spool) -> None:
    """Both have appended before; the other one left a part of a record."""
    other = Spool(spool.path, fsync="os")
    for number in range(4):
        (spool, other)[number % 2].append(record(number))
    [segment] = segments(spool)
    whole = segment.read_bytes()
    for cut in (1, 9, 50):
        segment.write_bytes(whole + encode(record(9))[:cut])
        spool.append(record(4))
        assert [int(of.body) for of in spool.waiting()] == [0, 1, 2, 3, 4]
        segment.write_bytes(whole)
    assert spool.status().damaged == []


def test_no_append_goes_into_a_segment_that_is_sent(spool: Spool) -> None:
    """A drain that is killed before it removes a full segment has noted that it is sent."""
    fill(spool, 4)
    [segment] = segments(spool)
    content = segment.read_bytes()
    assert sent(Spool(spool.path, limit=800)) == [0, 1, 2, 3]  # full for a spool with this limit
    segment.write_bytes(content)
    spool.append(record(4))
    assert sent(spool) == [4]


def test_damaged_bytes_are_set_aside_and_what_follows_is_sent(small: Spool) -> None:
    fill(small, 5)
    first = segments(small)[0]
    content = bytearray(first.read_bytes())
    content[12] ^= 1
    first.write_bytes(content)
    assert sent(small) == [2, 3, 4]
    [name] = small.status().damaged
    assert (small.path / name).read_bytes() == bytes(content)


def test_what_an_earlier_process_left_is_sent_first(spool: Spool) -> None:
    fill(spool, 2)
    later = Spool(spool.path)
    fill(later, 2, 2)
    assert sent(later) == [0, 1, 2, 3]


def test_two_drains_at_once_are_one(spool: Spool) -> None:
    fill(spool, 2)

    def send(record: Record) -> bool:
        with pytest.raises(SpoolBusy):
            Spool(spool.path).drain(lambda record: True)
        return True

    assert spool.drain(send).sent == 2


def test_records_are_appended_while_others_are_sent(small: Spool) -> None:
    fill(small, 2)
    received: list[int] = []

    def send(record: Record) -> bool:
        received.append(int(record.body))
        if len(received) < 8:
            fill(small, 1, len(received) + 1)
        return True

    small.drain(send)
    assert received == list(range(len(received)))
    assert small.is_empty()


def test_threads_append_whole_records(small: Spool) -> None:
    def work(first: int) -> None:
        fill(small, 25, first)

    threads = [threading.Thread(target=work, args=[100 * i]) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = sent(small)
    assert len(numbers) == 150
    for i in range(6):  # the order of each thread is kept
        assert [n for n in numbers if n // 100 == i] == list(range(100 * i, 100 * i + 25))


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


def test_status_counts_what_waits(spool: Spool) -> None:
    assert spool.status().waiting == 0
    fill(spool, 3)
    status = spool.status()
    assert (status.waiting, status.kinds) == (3, {"test": 3})
    assert status.oldest is not None
    assert status.bytes == segments(spool)[0].stat().st_size


def test_only_the_owner_can_read_a_spool(spool: Spool) -> None:
    spool.append(record(1))
    spool.drain(_refuse)
    modes = {path.name: path.stat().st_mode & 0o777 for path in spool.path.iterdir()}
    assert set(modes.values()) == {0o600}
    assert spool.path.stat().st_mode & 0o777 == 0o700


def _refuse(record: Record) -> bool:
    raise Refusal("no")


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


def test_a_child_of_fork_neither_holds_nor_releases_a_lock_of_its_parent(spool: Spool) -> None:
    fill(spool, 2)
    statuses: list[int] = []

    def send(record: Record) -> bool:
        child = os.fork()
        if child == 0:
            spool.append(Record("test", "child", b"99"))
            os._exit(0)
        statuses.append(os.waitpid(child, 0)[1])
        with pytest.raises(SpoolBusy):
            Spool(spool.path).drain(lambda record: True)
        return len(statuses) < 3

    bodies: list[bytes] = []

    def first_two(record: Record) -> bool:
        bodies.append(record.body)
        return send(record) if len(bodies) <= 2 else True

    spool.drain(first_two)
    assert statuses == [0, 0]
    assert bodies == [b"0000", b"0001", b"99", b"99"]


@pytest.mark.parametrize("options", [{"full": "wait"}, {"fsync": "never"}, {"limit": 0}])
def test_unknown_policies_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Spool(tmp_path, **options)  # type: ignore[arg-type]


def test_a_disk_that_is_full_leaves_no_half_of_a_record(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(spool, 2)
    write = module.folder.write_all

    def fail(descriptor: int, content: bytes) -> None:
        write(descriptor, content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.folder, "write_all", fail)
    with pytest.raises(SpoolError, match="No space"):
        spool.append(record(2))
    monkeypatch.setattr(module.folder, "write_all", write)
    fill(spool, 1, 3)
    assert sent(spool) == [0, 1, 3]


@pytest.mark.parametrize(
    "name",
    ["records", "spool", "state", "drainer", "patience", "places", "sending", "outages"],
)
def test_the_examples_give_what_they_show(name: str) -> None:
    tested = getattr(mlflow_timescale.spool, name)
    result = doctest.testmod(tested)
    assert result.attempted > 0
    assert result.failed == 0


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

    def send(of: Record) -> bool:
        number = int(of.body)
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

    def send(of: Record) -> bool:
        assert of.file is not None
        contents.append(of.file.read_bytes())
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
    assert spool.drain(_refuse) == Drained(0, 0, 1)
    assert spool.is_empty()
    assert spool.status().bytes == 0
    assert [path.read_bytes() for path in spool.path.glob("file-*")] == [b"w"]


def test_many_records_are_sent_at_once_or_one_by_one(spool: Spool) -> None:
    fill(spool, 5)
    received: list[list[int]] = []

    def many(records: list[Record]) -> int | None:
        received.append([int(of.body) for of in records])
        return None if len(received) == 1 else len(records)

    def one(of: Record) -> bool:
        received.append([int(of.body)])
        return True

    assert spool.drain(Sender(one, many)) == Drained(5, 0, 0)
    assert received == [[0, 1, 2, 3, 4], *([number] for number in range(5))]
    fill(spool, 2, 5)
    assert spool.drain(Sender(one, many)) == Drained(2, 0, 0)
    assert received[-1] == [5, 6]


def test_a_refused_record_costs_the_others_few_calls(spool: Spool) -> None:
    fill(spool, 64)
    received: list[int] = []

    def many(records: list[Record]) -> int:
        numbers = [int(of.body) for of in records]
        if 40 in numbers:
            raise Refusal("no")
        received.extend(numbers)
        return len(numbers)

    assert spool.drain(Sender(_refuse, many)) == Drained(63, 0, 1)
    assert received == [number for number in range(64) if number != 40]
    assert [int(of.record.body) for of in spool.status().refused] == [40]


def test_a_batch_whose_time_is_over_still_sends_its_first_record() -> None:
    batch = [Frame(record(number), number) for number in range(4)]
    counts: Counter[str] = Counter()

    def many(records: list[Record]) -> int:
        if len(records) > 1:
            raise Refusal("one of them")
        return 1

    sending = Sending(0, Sender(_refuse, many), counts, lambda *_: None, lambda: True)
    sending.send(batch)
    assert counts == {"sent": 1, "repeated": 0}


def test_what_waits_is_found_by_bytes(small: Spool) -> None:
    fill(small, 9)
    assert [int(of.body) for of in small.waiting(b"0007")] == [7]
    assert [int(of.body) for of in small.waiting()] == list(range(9))
    sent(small)
    assert list(small.waiting(b"0007")) == []


def test_a_tracking_server_has_no_spool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    uri = DatabaseURI.parse(f"timescaledb://host/trading?spool={tmp_path}/spool")
    assert spool_of(uri) is not None
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "timescaledb-artifacts:/")
    assert spool_of(uri) is None


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
