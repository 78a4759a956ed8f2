"""Spools of numbered records, and waiting for a spool that a thread or another process empties."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from mlflow_timescale.spool import Record, Refusal, Spool


def record(number: int, size: int = 4) -> Record:
    return Record("test", str(number), str(number).zfill(size).encode())


def sent(spool: Spool) -> list[int]:
    bodies: list[int] = []
    spool.drain(lambda record: bodies.append(int(record.body)) is None)
    return bodies


def fill(spool: Spool, count: int, first: int = 0, *, kept: bool = False) -> None:
    for number in range(first, first + count):
        spool.append(replace(record(number), is_kept=kept))


def segments(spool: Spool) -> list[Path]:
    return sorted(spool.path.glob("segment-*"))


def refuse(record: Record) -> bool:
    raise Refusal("no")


def wait_until_empty(spool: Spool | None) -> None:
    assert spool is not None
    end = time.monotonic() + 60
    while not spool.is_empty():
        assert time.monotonic() < end
        time.sleep(0.05)
