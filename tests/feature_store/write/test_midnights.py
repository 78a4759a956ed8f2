"""Dates as event times: a daily value at the midnight before its close looks ahead."""

from __future__ import annotations

import warnings

import pandas as pd
import polars as pl
import pytest

from feature_store import InvalidTime, MidnightEvents
from mlflow_timescale.common.frames import Frame

DAYS = pd.to_datetime(["2024-01-12", "2024-01-16", "2024-07-01"])


def frame(times, **more) -> pd.DataFrame:
    return pd.DataFrame({"entity_key": "AAPL", "date": times, "ret": 0.01, **more})


def warned(call) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(item.message) for item in caught if item.category is MidnightEvents]


def test_a_column_of_dates_is_pointed_to_the_close(store):
    with pytest.raises(InvalidTime, match=r"daily bar is known at the close: .*hours=16"):
        store.write_frame(frame(DAYS), event_time="date", availability_lag="1h")
    with pytest.raises(InvalidTime, match=r"meant: \.dt\.tz_localize"):
        store.write_frame(frame(DAYS + pd.Timedelta(hours=9)), event_time="date")


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_midnights_that_are_known_within_the_day_are_warned_of_once(store, zone):
    rows = frame(DAYS.tz_localize(zone), size=2.0)
    messages = warned(lambda: store.write_frame(rows, event_time="date", availability_lag="1h"))
    assert len(messages) == 1
    assert "XNYS next close" in messages[0]
    indexed = rows.set_index(["entity_key", "date"])
    again = warned(lambda: store.write_frame(indexed, event_time="date", availability_lag="1h"))
    assert len(again) == 1


def test_the_warning_names_the_line_of_the_caller(store):
    with pytest.warns(MidnightEvents) as caught:
        store.write_frame(frame(DAYS.tz_localize("UTC")), event_time="date", availability_lag="0h")
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("times", "options"),
    [
        (DAYS.tz_localize("UTC"), {"availability_lag": "XNYS next close"}),
        (DAYS.tz_localize("UTC"), {"availability_lag": "1d"}),
        (DAYS.tz_localize("UTC"), {}),
        (DAYS.tz_localize("UTC")[:1], {"availability_lag": "1h"}),
        (
            (DAYS + pd.Timedelta(hours=16)).tz_localize("America/New_York"),
            {"availability_lag": "1h"},
        ),
    ],
)
def test_other_writes_are_not_warned_of(store, times, options):
    rows = frame(times)
    assert not warned(lambda: store.write_frame(rows, event_time="date", **options))


def test_the_zone_of_a_polars_column_counts(store):
    rows = pl.from_pandas(frame(DAYS.tz_localize("America/New_York")))
    assert warned(lambda: store.write_frame(rows, event_time="date", availability_lag="1h"))


def test_a_missing_entity_column_names_the_levels_of_the_index():
    rows = pd.DataFrame({"factor": [1.0]}, index=pd.Index(["AAPL"], name="asset"))
    with pytest.raises(Exception, match=r"factor and the index level\(s\) asset.*entity="):
        Frame(rows).columns()["entity_key"]
