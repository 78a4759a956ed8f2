"""`predict` reads features as of a moment, and remembers the version and every value."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from support.models import register

from drift import Serving
from drift.serving import memory
from drift.serving.memory import ServedBlock
from drift.serving.models import ModelUnavailable
from feature_store import FeatureStore
from mlflow_timescale import ModelRegistry
from mlflow_timescale.common.errors import InvalidInput
from mlflow_timescale.common.time import to_micros
from mlflow_timescale.db.uri import DatabaseURI

CLOSE = datetime(2024, 4, 18, 19, 55, tzinfo=timezone.utc)
SESSION = date(2024, 4, 18)
EVENT = CLOSE - timedelta(hours=2)
FEATURES = ["rsi_14", "ret_5d", "sector"]
COLUMNS = ("rsi_14", "ret_5d")


class Scaled(mlflow.pyfunc.PythonModel):
    """rsi_14 times a factor; it keeps what it was given."""

    def __init__(self, factor: float, columns: int = 1) -> None:
        self.factor, self.columns = factor, columns

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        first = model_input[model_input.columns[0]] * self.factor
        if self.columns == 1:
            return first
        return pd.DataFrame({"score": first, "variance": first * 0})


@pytest.fixture(scope="module")
def registered(served_database: DatabaseURI) -> Iterator[DatabaseURI]:
    """Two versions of a model, and features of three names."""
    for factor in (1.0, 2.0):
        register(served_database, "momentum", Scaled(factor), *COLUMNS)
    register(served_database, "floats", Scaled(1.0), *COLUMNS, kind="float")
    register(served_database, "wide", Scaled(1.0, columns=2), *COLUMNS)
    with FeatureStore(served_database, "test") as store:
        rows = pd.DataFrame({"entity_key": ["AAPL", "MSFT"], "rsi_14": [60.0, math.nan]})
        rows["event_time"] = EVENT
        store.write_frame(rows, availability_lag=timedelta(minutes=5))
        late = rows.assign(rsi_14=[99.0, 99.0], event_time=EVENT + timedelta(hours=1))
        store.write_frame(late, availability_lag=timedelta(days=1))
        others = {"entity_key": ["AAPL"], "ret_5d": [0.1], "sector": ["TECH"]}
        store.write_frame({**others, "event_time": [EVENT]}, availability_lag=timedelta(0))
        revised = {"entity_key": ["NVDA"], "rsi_14": [50.0], "event_time": [EVENT]}
        store.write_frame(revised, availability_lag=timedelta(0), feature_version=2)
    return served_database


@pytest.fixture
def champion(registered: DatabaseURI, serving: Callable[..., Serving]) -> Iterator[Serving]:
    registry = ModelRegistry(registered)
    registry.set_alias("momentum", "champion", 1, reason="first")
    return serving(model="models:/momentum@champion", model_name="", model_version="")


def blocks(live: Serving) -> list[ServedBlock]:
    with live.database.connection() as conn:
        return list(memory.served(conn, live.strategy, SESSION, SESSION))


def test_a_prediction_is_remembered_with_each_value_and_its_event_time(champion: Serving) -> None:
    signals = champion.predict(["MSFT", "AAPL"], as_of=CLOSE)
    assert signals.index.tolist() == ["MSFT", "AAPL"]
    assert signals["AAPL"] == 60.0
    assert math.isnan(signals["MSFT"])
    [block] = blocks(champion)
    assert (block.model_name, block.model_version) == ("momentum", "1")
    assert (block.source, block.model_uri) == ("store", "models:/momentum@champion")
    assert block.request_id == signals.attrs["request_id"]
    assert block.as_of == CLOSE
    assert block.latency_ms is not None
    assert block.features_of("AAPL") == {"rsi_14": 60.0, "ret_5d": 0.1}
    seen = block.features_of("MSFT")
    assert math.isnan(seen["rsi_14"])
    assert seen["ret_5d"] is None
    assert block.event[block.rows["AAPL"]].tolist() == [to_micros(EVENT)] * 2
    assert block.feature_versions.tolist() == [1, 1]


def test_the_checksum_is_that_of_the_ledger(champion: Serving, registered: DatabaseURI) -> None:
    champion.predict("AAPL", as_of=CLOSE)
    with champion.database.connection() as conn:
        [(checksum,)] = conn.execute(
            "SELECT checksum FROM mlops.version_checksums WHERE name = 'momentum' AND version = 1"
        ).fetchall()
    [block] = blocks(champion)
    assert block.checksum == checksum
    assert len(checksum) == 64


def test_the_version_stays_until_refresh(champion: Serving, registered: DatabaseURI) -> None:
    assert champion.predict("AAPL", as_of=CLOSE)["AAPL"] == 60.0
    ModelRegistry(registered).set_alias("momentum", "champion", 2, reason="better")
    assert champion.predict("AAPL", as_of=CLOSE)["AAPL"] == 60.0
    assert champion.refresh()
    assert champion.model_version == "2"
    assert champion.predict("AAPL", as_of=CLOSE)["AAPL"] == 120.0
    assert not champion.refresh()
    assert sorted(block.model_version for block in blocks(champion)) == ["1", "1", "2"]


def test_a_model_whose_file_was_changed_does_not_serve(
    registered: DatabaseURI, serving: Callable[..., Serving]
) -> None:
    version = register(registered, "tampered", Scaled(3.0), *COLUMNS)
    live = serving(model=f"models:/tampered/{version}", model_name="", model_version="")
    with live.database.connection() as conn:
        conn.execute(
            "UPDATE mlops.artifact_chunks SET data = set_byte(data, 0, get_byte(data, 0) # 1)"
            " WHERE content_id IN (SELECT f.content_id FROM mlops.artifact_files AS f"
            " JOIN model_versions ON f.path LIKE '%' || substring(source FROM 'm-.*') || '%'"
            " WHERE name = 'tampered' AND f.path LIKE '%.pkl')"
        )
    with pytest.raises(MlflowException):
        live.predict("AAPL", as_of=CLOSE)
    assert blocks(live) == []


def test_a_version_that_does_not_exist_is_named(
    registered: DatabaseURI, serving: Callable[..., Serving]
) -> None:
    live = serving(model="models:/momentum/99", model_name="", model_version="")
    with pytest.raises(ModelUnavailable, match="momentum/99"):
        live.predict("AAPL", as_of=CLOSE)


def test_versions_of_features_are_kept_apart(champion: Serving) -> None:
    champion.predict(["AAPL", "NVDA"], as_of=CLOSE)
    versions = {block.entities: block.feature_versions.tolist() for block in blocks(champion)}
    assert versions == {("AAPL",): [1, 1], ("NVDA",): [2, 1]}


def test_texts_reach_the_model_and_the_memory(
    registered: DatabaseURI, serving: Callable[..., Serving]
) -> None:
    live = serving(model="models:/momentum/1", features=FEATURES, model_name="", model_version="")
    live.predict(["AAPL", "MSFT"], as_of=CLOSE)
    [block] = blocks(live)
    assert block.features_of("AAPL")["sector"] == "TECH"
    assert block.features_of("MSFT")["sector"] is None


def test_a_signature_of_floats_is_served(
    registered: DatabaseURI, serving: Callable[..., Serving]
) -> None:
    live = serving(model="models:/floats/1", model_name="", model_version="")
    assert live.predict("AAPL", as_of=CLOSE)["AAPL"] == 60.0


def test_one_of_several_outputs_is_the_prediction(
    registered: DatabaseURI, serving: Callable[..., Serving]
) -> None:
    options = {"model": "models:/wide/1", "model_name": "", "model_version": ""}
    with pytest.raises(ValueError, match="score"):
        serving(**options).predict("AAPL", as_of=CLOSE)
    with pytest.raises(InvalidInput, match="mean"):
        serving(**options, output="mean").predict("AAPL", as_of=CLOSE)
    assert serving(**options, output="score").predict("AAPL", as_of=CLOSE)["AAPL"] == 60.0


def test_without_as_of_the_moment_is_that_of_the_read(champion: Serving) -> None:
    before = datetime.now(timezone.utc)
    champion.predict("AAPL")
    today = before.date()
    with champion.database.connection() as conn:
        found = list(
            memory.served(
                conn, champion.strategy, today - timedelta(days=7), today + timedelta(days=7)
            )
        )
    assert abs(found[0].as_of - before) < timedelta(minutes=1)


def test_record_names_the_loaded_version(champion: Serving) -> None:
    champion.record("AAPL", output=0.5, as_of=CLOSE)
    champion.record("AAPL", output=0.5, as_of=CLOSE, model_version="own")
    labels = {(block.model_name, block.model_version) for block in blocks(champion)}
    assert labels == {("momentum", "1"), ("", "own")}


def test_threads_load_one_version_once(champion: Serving) -> None:
    models: list[int] = []
    threads = [threading.Thread(target=lambda: models.append(id(champion.model))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(models) == 6
    assert len(set(models)) == 1


def test_a_child_of_fork_predicts(champion: Serving) -> None:
    champion.predict("AAPL", as_of=CLOSE, request_id="parent")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            champion.predict("AAPL", as_of=CLOSE, request_id="child")
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    champion.predict("AAPL", as_of=CLOSE, request_id="after")
    assert {block.request_id for block in blocks(champion)} == {"parent", "child", "after"}


def test_a_naive_as_of_is_refused(champion: Serving) -> None:
    with pytest.raises(ValueError, match="time zone"):
        champion.predict("AAPL", as_of=CLOSE.replace(tzinfo=None))


def test_a_label_and_a_model_are_one_too_many(registered: DatabaseURI) -> None:
    with pytest.raises(ValueError, match="one of both"):
        Serving(registered, "s", model="models:/momentum/1", model_version="7")


def test_values_equal_what_the_store_gives_at_the_same_moment(champion: Serving) -> None:
    """On a healthy system a comparison with the store finds nothing."""
    champion.predict(["AAPL", "MSFT"], as_of=CLOSE)
    [block] = blocks(champion)
    store = FeatureStore(champion.database)
    spine = pd.DataFrame({"entity_key": list(block.entities), "as_of": block.as_of})
    frame = store.training_frame(spine, list(block.feature_names))
    np.testing.assert_array_equal(frame[list(block.feature_names)].to_numpy(), block.values)
