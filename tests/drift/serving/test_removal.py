"""Retention removes what was served before a date, and leaves a record of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timezone
from typing import Any

import pytest

from drift import DriftMonitor, Serving
from drift.serving import memory, removal
from mlflow_timescale.cli import main

OLD, NEW = (datetime(year, 4, 18, 19, 55, tzinfo=timezone.utc) for year in (2023, 2024))


def test_what_is_removed_is_gone_and_remembered(live: Serving, served_database: Any) -> None:
    for moment in (OLD, NEW):
        live.record(["A", "B"], output=[0.1, 0.2], features={"x": [1, 2]}, as_of=moment)
    with live.database.connection() as conn:
        assert removal.count_before(conn, date(2024, 1, 1)) == 2
        assert removal.remove_before(conn, date(2024, 1, 1)) == 2
        assert removal.remove_before(conn, date(2024, 1, 1)) == 0
        everything = memory.served(conn, live.strategy, date(2000, 1, 1), date(2100, 1, 1))
        assert [block.as_of for block in everything] == [NEW]
        with pytest.raises(memory.Removed, match="2024-01-01"):
            memory.refuse_removed(conn, OLD.date())
        memory.refuse_removed(conn, NEW.date())
    monitor = DriftMonitor(served_database, live.strategy, tracking_uri=False, notify=())
    monitor.configure(min_n=2)
    assert monitor.calculate_metrics(OLD.date()).n_signals == 2  # the judged record stays


def test_the_command_shows_first_what_it_removes(
    serving: Callable[..., Serving], capsys: pytest.CaptureFixture[str]
) -> None:
    live = serving()
    live.record("A", output=0.1, as_of=OLD)
    words = ["drift", "forget", "--uri", live.uri.url, "--before", "2024-01-01"]
    for more, text in ((["--dry-run"], "to remove: 1 pred"), (["--yes"], "removed 1 pred")):
        with pytest.raises(SystemExit):
            main([*words, *more])
        assert text in capsys.readouterr().out


def test_the_last_session_is_the_last_one_served(live: Serving) -> None:
    live.record("A", output=0.1, as_of=NEW)
    live.record("A", output=0.1, as_of=datetime(2024, 4, 17, 19, tzinfo=timezone.utc))
    with live.database.connection() as conn:
        assert memory.last_session(conn, live.strategy) == NEW.date()
        assert memory.last_session(conn, live.strategy, date(2024, 4, 17)) == date(2024, 4, 17)
        assert memory.last_session(conn, "unknown") is None
