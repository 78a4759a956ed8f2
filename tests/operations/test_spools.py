"""`doctor` shows what waits on its machine, and what was refused or dropped."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.findings import Finding, Patient
from mlflow_timescale.operations.spools import spool
from mlflow_timescale.spool import Record, Refusal, Spool

NOW = datetime.now(timezone.utc)


def examined(path: Path) -> list[Finding]:
    uri = DatabaseURI.parse(f"timescaledb://db.example/mlflow?spool={path}")
    nothing: Any = None  # the check reads the folder only
    return list(spool(Patient(nothing, uri, 4)))


def test_without_a_spool_there_is_nothing_to_show(tmp_path: Path) -> None:
    assert examined(tmp_path / "none") == []


@pytest.mark.parametrize(("age", "level"), [(0, "note"), (3, "action")])
def test_what_waits_is_shown_and_urgent_after_an_hour(tmp_path: Path, age: int, level: str) -> None:
    waiting = Spool(tmp_path / "spool")
    waiting.append(Record("tracking", "1", b"x", NOW - timedelta(hours=age)))
    [finding] = examined(tmp_path / "spool")
    assert (finding.level, finding.advice) == (level, "mlflow-timescale spool drain")
    assert "waiting writes: 1" in finding.found


def test_what_was_refused_or_dropped_has_to_be_looked_at(tmp_path: Path) -> None:
    refusing = Spool(tmp_path / "spool", limit=250, full="drop-oldest")
    for number in range(4):
        refusing.append(replace(Record("tracking", str(number), b"x" * 20)))
    refusing.drain(_refuse)
    [finding] = examined(tmp_path / "spool")
    assert finding.level == "action"
    assert "refused" in finding.found
    assert "dropped because it was full" in finding.found


def _refuse(record: Record) -> bool:
    raise Refusal("no")
