"""Predictions and returns come in frames of every kind."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.frames import KINDS, ROWS, START, TICKERS, table

from drift import DriftMonitor
from mlflow_timescale.common.frames import InvalidFrame

SESSION = date(2024, 1, 12)


def recorded(monitor: DriftMonitor, columns: str) -> list[tuple[Any, ...]]:
    with monitor.connect() as conn:
        return conn.execute(
            f"SELECT {columns} FROM mlops.drift_predictions ORDER BY signal"
        ).fetchall()


def test_predictions_of_every_kind_of_frame_are_recorded_alike(
    monitor: DriftMonitor, tmp_path: Path
) -> None:
    """On one database: each kind repeats the rows of the first, and none contradicts it."""
    frame = table().rename_columns({"a": "signal", "b": "group", "event_time": "signal_time"})
    times = [START.replace(day=12)] * ROWS
    frame = frame.set_column(1, "signal_time", [times]).drop_columns("c")
    assert monitor.record_predictions(frame) == ROWS
    names = [(name, i + 0.5, str(i)) for i, name in enumerate(TICKERS)]
    assert recorded(monitor, "entity_key, signal, entity_group") == names
    for i, kind in enumerate(KINDS):
        directory = tmp_path / str(i)
        directory.mkdir()
        assert monitor.record_predictions(KINDS[kind](frame, directory)) == 0, kind


def csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines))
    return path


def test_identifiers_of_a_csv_file_are_recorded_as_written(
    monitor: DriftMonitor, tmp_path: Path
) -> None:
    path = csv(
        tmp_path / "said.csv",
        "entity_key,session,signal,model_name,model_version,group,signal_name",
        "000001,2024-01-12,1,007,1.10,0101,",
        "NA,2024-01-12,2,TRUE,1.1,NA,1e5",
    )
    assert monitor.record_predictions(path) == 2
    columns = "entity_key, model_name, model_version, entity_group, signal_name"
    assert recorded(monitor, columns) == [
        ("000001", "007", "1.10", "0101", "signal"),
        ("NA", "TRUE", "1.1", "NA", "1e5"),
    ]
    returned = csv(tmp_path / "came.csv", "entity_key,session,value", "000001,2024-01-12,0.5")
    assert monitor.record_returns(returned) == 1


def test_versions_that_are_numbers_with_a_fraction_are_refused(monitor: DriftMonitor) -> None:
    frame = pd.DataFrame(
        {"entity_key": ["A"], "session": [SESSION], "signal": [1.0], "model_version": [1.1]}
    )
    with pytest.raises(InvalidFrame, match=r"'model_version' holds double \(such as 1.1\), not"):
        monitor.record_predictions(frame)
    assert monitor.record_predictions(frame.assign(model_version=3)) == 1
    assert recorded(monitor, "model_version") == [("3",)]


def test_an_empty_name_is_refused(monitor: DriftMonitor, tmp_path: Path) -> None:
    path = csv(tmp_path / "said.csv", "entity_key,session,signal", ",2024-01-12,1")
    with pytest.raises(InvalidFrame, match="'entity_key' has 1 empty"):
        monitor.record_predictions(path)


@pytest.mark.parametrize(
    ("time", "entity", "signal"), [("datetime", "instrument", "score"), ("date", "asset", "factor")]
)
def test_frames_of_qlib_and_alphalens_are_recorded_by_the_names_of_their_columns(
    monitor: DriftMonitor, time: str, entity: str, signal: str
) -> None:
    index = pd.MultiIndex.from_product([[pd.Timestamp(SESSION)], ["A", "B"]], names=[time, entity])
    frame = pd.DataFrame({signal: [1.0, 2.0], "label": 0.1}, index=index)
    names = {"entity_key": entity, "session": time, "signal": signal}
    assert monitor.record_predictions(frame, columns=names) == 2
    assert monitor.record_predictions(frame[signal], columns=names) == 0
    assert recorded(monitor, "entity_key, signal, session") == [
        ("A", 1.0, SESSION),
        ("B", 2.0, SESSION),
    ]
    returns = {"entity_key": entity, "session": time, "value": "label"}
    assert monitor.record_returns(frame, columns=returns) == 2
    with pytest.raises(InvalidFrame, match="columns has no 'entity'; it maps any of entity_key"):
        monitor.record_predictions(frame, columns={"entity": entity})
