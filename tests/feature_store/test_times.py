"""Times: what has no one meaning is refused, whatever it comes in."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from support.bitemporal import UTC, at

from feature_store import InvalidTime
from mlflow_timescale.common.frames import Frame, as_column
from mlflow_timescale.common.micros import column_micros
from mlflow_timescale.common.time import to_micros

NEW_YORK = ZoneInfo("America/New_York")
NAIVE = "no time zone; say which one is meant"
naive = datetime(2024, 1, 15)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("moment", "message"),
    [
        (naive, NAIVE),
        (pd.Timestamp("2024-01-15"), NAIVE),
        (date(2024, 1, 15), "not a datetime"),
        ("2024-01-15T00:00:00Z", "not a datetime"),
        (1705276800.0, "not a datetime"),
        (pd.Timestamp("2024-01-15T00:00:00.000000001", tz="UTC"), "finer than a microsecond"),
        (None, "not a datetime"),
        (pd.NaT, "not a datetime|no time zone"),
    ],
)
def test_a_moment_without_one_meaning_is_refused(store, moment, message):
    with pytest.raises(InvalidTime, match=message):
        to_micros(moment)
    with pytest.raises(InvalidTime):
        store.write_features("AAPL", moment, {"a": 1.0})
    if moment is not None:
        with pytest.raises(InvalidTime):
            store.get_latest("AAPL", as_of=moment)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pd.Series(pd.to_datetime(["2024-01-15"])), NAIVE),
        (pd.Series(pd.to_datetime(["2024-01-15"]).astype("datetime64[ns]")), NAIVE),
        (pd.Series(pd.to_datetime(["2024-01-15"])).astype("timestamp[us][pyarrow]"), NAIVE),
        (pl.Series([naive]), NAIVE),
        (pa.array([naive]), NAIVE),
        (pd.Series([naive], dtype=object), "has no time zone"),
        (np.array(["2024-01-15"], dtype="M8[us]"), NAIVE),
        (pd.Series(["2024-01-15T00:00:00Z"]), "not times; for text use pandas.to_datetime"),
        (pd.Series([date(2024, 1, 15)]), "not a datetime"),
        (pa.array([date(2024, 1, 15)]), "not times"),
        (pd.Series([1.7e9]), "not times"),
        (pa.array([1], pa.timestamp("us", "Mars/Olympus")), "'Mars/Olympus', which does not exist"),
        (pa.array([1], pa.timestamp("ns", "UTC")), "finer than a microsecond"),
        (pd.Series(pd.to_datetime([1], unit="ns", utc=True)), "finer than a microsecond"),
        (pa.array([2**62], pa.timestamp("us", "UTC")), "outside the years 1 to 9999"),
        (pa.array([at(0), None], pa.timestamp("us", "UTC")), "missing in row 1"),
        (pd.Series(pd.to_datetime(["2024-01-15", None], utc=True)), "missing in row 1"),
        (pd.Series([at(0), None], dtype=object), "missing in row 1"),
    ],
)
def test_a_column_without_one_meaning_is_refused(column, message):
    with pytest.raises(InvalidTime, match=message):
        column_micros(as_column(column), "event_time")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_every_unit_of_every_frame_gives_the_same_microseconds(unit):
    moments = [at(0), at(1.5), datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)]
    wanted = [to_micros(moment) for moment in moments]
    series = pd.Series(moments).astype(f"datetime64[{unit}, UTC]")
    frames = [
        pd.DataFrame({"t": series}),
        pd.DataFrame({"t": series.dt.tz_convert("America/New_York")}),
        pd.DataFrame({"t": series.astype(pd.ArrowDtype(pa.timestamp(unit, "Asia/Tokyo")))}),
        pa.table({"t": pa.array(moments).cast(pa.timestamp(unit, "+05:30"))}),
    ]
    if unit != "s":
        cast = pl.col("t").cast(pl.Datetime(unit, "Europe/London"))
        frames.append(pl.DataFrame({"t": moments}).with_columns(cast))
    for frame in frames:
        assert column_micros(Frame(frame).column("t"), "t").tolist() == wanted


def test_the_zone_of_the_session_changes_nothing(store):
    """The same text means three moments in three zones; what is stored must not depend on it."""
    store.write_features("AAPL", at(0), {"a": 1.0}, ingest_time=at(1))
    for zone in ("UTC", "America/New_York", "Asia/Tokyo"):
        with store.connection() as conn:
            conn.execute(f"SET timezone = '{zone}'")
        value = store.get_latest("AAPL", as_of=at(2))["a"]
        assert (value.event_time, value.ingest_time) == (at(0), at(1))
        assert store.training_frame([("AAPL", at(2))], "a", event_times=True)[
            "a__event_time"
        ].tolist() == [pd.Timestamp(at(0))]
