"""Waiting for a spool that a thread or another process empties."""

from __future__ import annotations

import time

from mlflow_timescale.spool import Spool


def wait_until_empty(spool: Spool | None) -> None:
    assert spool is not None
    end = time.monotonic() + 60
    while not spool.is_empty():
        assert time.monotonic() < end
        time.sleep(0.05)
