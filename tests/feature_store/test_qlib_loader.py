"""The loader for qlib's handlers: equal to qlib's own on the same data, and no look-ahead."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import qlib
from qlib.contrib.data.loader import Alpha158DL
from qlib.data.dataset.handler import DataHandlerLP
from qlib.data.dataset.loader import DataLoader, QlibDataLoader
from support.qlib_data import FIRST, MARKET, write_data

from feature_store import FeatureStore
from feature_store.errors import FeatureError, InvalidValue, UnknownFeature
from feature_store.qlib_loader import FeatureStoreLoader
from mlflow_timescale.common.errors import InvalidTime
from mlflow_timescale.db.uri import DatabaseURI

CLOSE = "15:00 Asia/Shanghai"
LABEL = (["Ref($close, -2)/Ref($close, -1) - 1"], ["LABEL0"])
START, END = "2019-02-01", "2020-06-26"
FIELDS, NAMES = (part[:30] for part in Alpha158DL.get_feature_config())
LATE = "SH600003"  # listed in the middle of the data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_data(tmp_path_factory.mktemp("qlib") / "data", instruments=6)
    market = folder / "instruments" / f"{MARKET}.txt"
    market.write_text(market.read_text().replace(f"{LATE}\t{FIRST}", f"{LATE}\t2019-10-08"))
    qlib.init(provider_uri=str(folder), region="cn", kernels=1, skip_if_reg=False)
    return folder


@pytest.fixture(scope="module")
def theirs(data: Path) -> pd.DataFrame:
    """The features as qlib loads them, in a group."""
    loader = QlibDataLoader({"feature": (FIELDS, NAMES)})
    frame: pd.DataFrame = loader.load(MARKET, START, END)
    return frame


def as_written(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of qlib as the store takes them: an event at each close."""
    rows = frame["feature"].reset_index()
    closes = rows.pop("datetime").dt.tz_localize("Asia/Shanghai") + pd.Timedelta(hours=15)
    return rows.rename(columns={"instrument": "entity_key"}).assign(event_time=closes)


@pytest.fixture(scope="module")
def uri(shared_database: DatabaseURI, theirs: pd.DataFrame) -> Iterator[str]:
    """A store with the same features, each known at its close."""
    with FeatureStore(shared_database) as store:
        store.write_frame(as_written(theirs), availability_lag=timedelta(0))
    return shared_database.url


def loader(uri: str, config: Any = None, as_of: str = CLOSE, **options: Any) -> FeatureStoreLoader:
    return FeatureStoreLoader(config or {"feature": NAMES}, as_of, uri, **options)


def same(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True, check_freq=False)


@pytest.mark.parametrize(
    "instruments", [MARKET, None, ["SH600001", "SH600004"], {"market": MARKET, "filter_pipe": []}]
)
def test_the_frame_is_that_of_qlibs_own_loader_to_the_bit(
    uri: str, theirs: pd.DataFrame, instruments: Any
) -> None:
    expected = theirs
    if isinstance(instruments, list):
        expected = theirs[theirs.index.get_level_values("instrument").isin(instruments)]
    ours = loader(uri).load(instruments, START, END)
    same(ours, expected)
    assert set(ours.dtypes) == {np.dtype("float32")}


def test_a_part_of_the_time_and_other_columns(uri: str, theirs: pd.DataFrame) -> None:
    ours = loader(uri, ([NAMES[1], NAMES[0]], ["b", "a"])).load(MARKET, "2020-01-02", "2020-01-31")
    expected = theirs.loc["2020-01-02":"2020-01-31", "feature"][[NAMES[1], NAMES[0]]]
    same(ours, expected.set_axis(["b", "a"], axis=1))


def test_without_bounds_the_days_are_those_of_qlibs_calendar(
    uri: str, theirs: pd.DataFrame
) -> None:
    ours = loader(uri, max_age="1h").load(MARKET)
    same(ours, theirs)


def test_before_the_close_only_the_values_of_the_day_before_are_known(
    uri: str, theirs: pd.DataFrame
) -> None:
    ours = loader(uri, as_of="14:50 Asia/Shanghai").load(["SH600001"], START, END)
    own = theirs.xs("SH600001", level="instrument", drop_level=False)
    assert ours.index.equals(own.index[1:])
    np.testing.assert_array_equal(ours.to_numpy(), own.to_numpy()[:-1])


def test_a_revision_that_arrives_later_is_not_seen(
    uri: str, theirs: pd.DataFrame, shared_database: DatabaseURI
) -> None:
    """A value of 3 June is corrected two days later: rows until then hold the first one."""
    name, day = "revised", datetime(2020, 6, 3, 7, tzinfo=timezone.utc)
    with FeatureStore(shared_database) as store:
        store.write_features("SH600001", day, {name: 1.0}, ingest_time=day)
        later = datetime(2020, 6, 5, 6, tzinfo=timezone.utc)
        store.write_features("SH600001", day, {name: 2.0}, ingest_time=later)
    frame = loader(uri, [name]).load(["SH600001"], "2020-06-02", "2020-06-08")
    values = frame[name].droplevel("instrument")
    assert {f"{day:%d}": value for day, value in values.items()} == {
        "03": 1.0,
        "04": 1.0,
        "05": 2.0,
        "08": 2.0,
    }


def test_the_sessions_of_an_exchange_are_rows_until_now(uri: str) -> None:
    """Qlib's made-up calendar has every weekday; Shanghai rests for a week in October."""
    frame = loader(uri, as_of="XSHG close").load(["SH600001"], "2019-09-27", "2019-10-09")
    days = frame.index.get_level_values("datetime")
    assert [day.day for day in days] == [27, 30, 8, 9]
    ahead = f"{datetime.now(timezone.utc) + timedelta(days=20):%Y-%m-%d}"
    last = loader(uri, as_of="XSHG close").load(["SH600001"], "2020-06-01", ahead).index[-1][0]
    assert last <= pd.Timestamp(datetime.now(timezone.utc).date())


def test_old_values_end_with_max_age(uri: str) -> None:
    weekend = {"instruments": ["SH600001"], "start_time": "2020-06-24", "end_time": "2020-07-03"}
    assert len(loader(uri, as_of="XSHG close").load(**weekend)) == 6
    limited = loader(uri, as_of="XSHG close", max_age="3 sessions", calendar="XSHG")
    assert len(limited.load(**weekend)) < 6


def test_a_handler_of_qlib_processes_it_beside_labels_of_qlib(
    uri: str, theirs: pd.DataFrame
) -> None:
    """The handler of the documentation, and the same one on qlib's data alone."""
    labels = {
        "class": "qlib.data.dataset.loader.QlibDataLoader",
        "kwargs": {"config": {"label": LABEL}},
    }
    ours = {
        "class": "FeatureStoreLoader",
        "module_path": "mlflow_timescale.features",
        "kwargs": {"config": {"feature": NAMES}, "as_of": CLOSE, "uri": uri},
    }
    qlibs = {
        "class": "qlib.data.dataset.loader.QlibDataLoader",
        "kwargs": {"config": {"feature": (FIELDS, NAMES)}},
    }
    processors = {
        "infer_processors": [
            {
                "class": "RobustZScoreNorm",
                "kwargs": {
                    "fields_group": "feature",
                    "fit_start_time": START,
                    "fit_end_time": "2019-12-31",
                },
            },
            {"class": "Fillna", "kwargs": {"fields_group": "feature"}},
        ],
        "learn_processors": [{"class": "DropnaLabel"}, {"class": "CSZScoreNorm"}],
    }

    def handled(features: dict[str, Any]) -> DataHandlerLP:
        nested = {"class": "NestedDataLoader", "kwargs": {"dataloader_l": [features, labels]}}
        return DataHandlerLP(MARKET, START, END, data_loader=nested, **processors)

    mine, expected = handled(ours), handled(qlibs)
    for key in (DataHandlerLP.DK_R, DataHandlerLP.DK_I, DataHandlerLP.DK_L):
        same(
            mine.fetch(col_set=DataHandlerLP.CS_RAW, data_key=key),
            expected.fetch(col_set=DataHandlerLP.CS_RAW, data_key=key),
        )


def test_it_reads_from_the_database_of_qlibs_experiments(
    uri: str, theirs: pd.DataFrame, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TIMESCALE_URI", raising=False)
    nameless = FeatureStoreLoader(NAMES, CLOSE)
    monkeypatch.setitem(qlib.config.C.exp_manager["kwargs"], "uri", "http://team:5000")
    with pytest.raises(FeatureError, match="MLFLOW_TIMESCALE_URI"):
        nameless.load(MARKET, START, END)
    monkeypatch.setitem(qlib.config.C.exp_manager["kwargs"], "uri", uri)
    same(nameless.load(MARKET, START, END), theirs["feature"])


def test_a_password_is_not_pickled() -> None:
    for uri, kept in (("timescaledb://ann:s3cret@db/x", None), ("timescaledb://ann@db/x", ...)):
        copy = pickle.loads(pickle.dumps(loader(uri, ["a"])))
        assert copy.uri == (uri if kept else None)
        assert (copy.as_of, copy.fields) == (CLOSE, (["a"], ["a"]))


@pytest.mark.slow
def test_a_pickle_is_loaded_where_the_generic_name_is_another_package(tmp_path: Path) -> None:
    (tmp_path / "feature_store").mkdir()
    (tmp_path / "feature_store" / "__init__.py").write_text("")
    (tmp_path / "loader.pkl").write_bytes(pickle.dumps(loader("timescaledb://db/x", ["a"])))
    code = (
        "import pickle; loader = pickle.load(open('loader.pkl', 'rb'));"
        "print(type(loader).__module__, loader.uri)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [
        "mlflow_timescale._feature_store.qlib_loader",
        "timescaledb://db/x",
    ]


def test_what_cannot_be_read_is_named(uri: str, shared_database: DatabaseURI) -> None:
    with pytest.raises(UnknownFeature, match="KMIDD"):
        loader(uri, ["KMIDD"]).load(MARKET, START, END)
    for as_of in ("close", "15:00", "25:00 Asia/Shanghai", "15:00 Asia/Nowhere"):
        with pytest.raises(InvalidTime, match=f"as_of '{as_of}' is no time of a session: write"):
            loader(uri, as_of=as_of)
    for config in ("", "KMID"):
        with pytest.raises(InvalidValue, match="names no features: give a list"):
            FeatureStoreLoader(config, CLOSE, uri)
    with pytest.raises(InvalidValue, match="dtype 'int8' is not one of float32, float64"):
        loader(uri, dtype="int8")
    with pytest.raises(InvalidTime, match="'soon' is no date"):
        loader(uri).load(MARKET, "soon", END)
    with FeatureStore(shared_database) as store:
        when = datetime(2020, 6, 3, 7, tzinfo=timezone.utc)
        store.write_features("SH600001", when, {"sector": "banks"}, ingest_time=when)
    with pytest.raises(InvalidValue, match="sector"):
        loader(uri, ["sector"]).load(["SH600001"], "2020-06-01", "2020-06-05")


def test_it_is_a_loader_of_qlib_and_found_under_both_names() -> None:
    import feature_store
    from mlflow_timescale import features

    assert features.FeatureStoreLoader is feature_store.FeatureStoreLoader is FeatureStoreLoader
    assert "FeatureStoreLoader" not in features.__all__
    assert issubclass(FeatureStoreLoader, DataLoader)
