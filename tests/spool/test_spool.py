"""What is appended to a spool is sent in order, and what is damaged or refused is not lost."""

from __future__ import annotations

import doctest
import os
import threading
from collections import Counter

import pytest
from support.spools import fill, record, refuse, segments, sent

import mlflow_timescale.spool.drainer
import mlflow_timescale.spool.outages
import mlflow_timescale.spool.patience
import mlflow_timescale.spool.places
import mlflow_timescale.spool.records
import mlflow_timescale.spool.sending
import mlflow_timescale.spool.spool
import mlflow_timescale.spool.state
from mlflow_timescale.spool import Drained, Record, Refusal, Sender, Spool, SpoolBusy
from mlflow_timescale.spool.records import Frame, encode
from mlflow_timescale.spool.sending import Sending


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
        assert [int(entry.body) for entry in spool.waiting()] == [0, 1, 2, 3, 4]
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


def test_status_counts_what_waits(spool: Spool) -> None:
    assert spool.status().waiting == 0
    fill(spool, 3)
    status = spool.status()
    assert (status.waiting, status.kinds) == (3, {"test": 3})
    assert status.oldest is not None
    assert status.bytes == segments(spool)[0].stat().st_size


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


@pytest.mark.parametrize(
    "name",
    ["records", "spool", "state", "drainer", "patience", "places", "sending", "outages"],
)
def test_the_examples_give_what_they_show(name: str) -> None:
    tested = getattr(mlflow_timescale.spool, name)
    result = doctest.testmod(tested)
    assert result.attempted > 0
    assert result.failed == 0


def test_many_records_are_sent_at_once_or_one_by_one(spool: Spool) -> None:
    fill(spool, 5)
    received: list[list[int]] = []

    def many(records: list[Record]) -> int | None:
        received.append([int(entry.body) for entry in records])
        return None if len(received) == 1 else len(records)

    def one(entry: Record) -> bool:
        received.append([int(entry.body)])
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
        numbers = [int(entry.body) for entry in records]
        if 40 in numbers:
            raise Refusal("no")
        received.extend(numbers)
        return len(numbers)

    assert spool.drain(Sender(refuse, many)) == Drained(63, 0, 1)
    assert received == [number for number in range(64) if number != 40]
    assert [int(entry.record.body) for entry in spool.status().refused] == [40]


def test_a_batch_whose_time_is_over_still_sends_its_first_record() -> None:
    batch = [Frame(record(number), number) for number in range(4)]
    counts: Counter[str] = Counter()

    def many(records: list[Record]) -> int:
        if len(records) > 1:
            raise Refusal("one of them")
        return 1

    sending = Sending(0, Sender(refuse, many), counts, lambda *_: None, lambda: True)
    sending.send(batch)
    assert counts == {"sent": 1, "repeated": 0}


def test_what_waits_is_found_by_bytes(small: Spool) -> None:
    fill(small, 9)
    assert [int(entry.body) for entry in small.waiting(b"0007")] == [7]
    assert [int(entry.body) for entry in small.waiting()] == list(range(9))
    sent(small)
    assert list(small.waiting(b"0007")) == []
