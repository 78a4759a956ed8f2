"""Predictions of the caller's own code are recorded whole, once, with what they were made from."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from drift import DriftMonitor, Serving
from drift.inputs.recording import Contradiction
from drift.serving import memory
from drift.serving.memory import ServedBlock
from feature_store.errors import InvalidName, InvalidValue
from mlflow_timescale.common.frames import InvalidFrame
from mlflow_timescale.common.micros import MISSING
from mlflow_timescale.common.time import InvalidTime, from_micros, to_micros
from mlflow_timescale.db import load

CLOSE = datetime(2024, 4, 18, 19, 55, tzinfo=timezone.utc)
SESSION = date(2024, 4, 18)
NAIVE = CLOSE.replace(tzinfo=None)
_queries = load("drift")


def blocks(live: Serving, **options: Any) -> list[ServedBlock]:
    with live.database.connection() as conn:
        day = options.pop("day", SESSION)
        return list(memory.served(conn, live.strategy, day, day, **options))


def test_a_prediction_comes_back_with_everything_that_it_was_made_from(live: Serving) -> None:
    hour = timedelta(hours=1)
    receipt = live.record(
        ["MSFT", "AAPL"],
        features={"rsi_14": [61.2, 40.0], "ret_5d": [0.01, -0.02]},
        output=[0.4, -0.1],
        as_of=CLOSE,
        event_times={"rsi_14": CLOSE - hour},
        latency=timedelta(milliseconds=12.5),
        request_id="close",
    )
    assert receipt.is_new
    assert receipt.request_id == "close"
    [block] = blocks(live)
    assert (block.session, block.as_of, block.request_id) == (SESSION, CLOSE, "close")
    assert block.recorded_at > CLOSE
    assert block.latency_ms == 12.5
    assert (block.model_name, block.model_version) == ("gbm", "7")
    assert block.code_version == "4f2a9c1"
    assert "numpy" in block.environment
    assert block.source == "caller"
    assert block.feature_names == ("rsi_14", "ret_5d")
    assert block.features_of("MSFT") == {"rsi_14": 61.2, "ret_5d": 0.01}
    assert block.outputs[block.rows["AAPL"]] == -0.1
    assert [from_micros(t) for t in block.event[:, 0]] == [CLOSE - hour] * 2
    assert (block.event[:, 1] == MISSING).all()


def test_nan_none_and_infinity_stay_distinct(live: Serving) -> None:
    live.record(
        "AAPL",
        features={"nan": math.nan, "none": None, "inf": -math.inf, "zero": 0.0},
        output=math.inf,
        as_of=CLOSE,
    )
    [block] = blocks(live)
    cells = block.features_of("AAPL")
    assert math.isnan(cells["nan"])
    assert cells["none"] is None
    assert cells["inf"] == -math.inf
    assert cells["zero"] == 0.0
    assert block.outputs.tolist() == [math.inf]


@pytest.mark.parametrize("value", [0.5, math.nan, math.inf])
def test_a_mapping_of_floats_is_recorded_as_a_frame_is(live: Serving, value: float) -> None:
    later = CLOSE + timedelta(minutes=1)
    live.record("A", features={"x": value, "y": 1.0}, output=0.1, as_of=CLOSE)
    live.record("A", features=pd.DataFrame({"x": [value], "y": [1]}), output=0.1, as_of=later)
    mapping, frame = blocks(live)
    np.testing.assert_array_equal(mapping.values, frame.values)
    assert mapping.feature_names == frame.feature_names
    assert not mapping.absent.any()


def test_texts_and_structures_are_kept_beside_numbers(live: Serving) -> None:
    features = {"sector": ["TECH", None], "vector": [[1.0, 2.0], {"a": 1}], "x": [1.0, 2.0]}
    live.record(["A", "B"], features=features, output=[1.0, 2.0], as_of=CLOSE)
    [block] = blocks(live)
    assert block.features_of("A") == {"sector": "TECH", "vector": [1.0, 2.0], "x": 1.0}
    assert block.features_of("B") == {"sector": None, "vector": {"a": 1}, "x": 2.0}


NAMES = ["B", "A"]
FRAMES = {
    "pandas": pd.DataFrame({"entity_key": ["A", "B"], "x": [1.0, 2.0]}),
    "pandas, indexed": pd.DataFrame({"x": [1.0, 2.0]}, index=["A", "B"]),
    "pandas, in order": pd.DataFrame({"x": [2.0, 1.0]}),
    "polars": pl.DataFrame({"entity_key": ["A", "B"], "x": [1.0, 2.0]}),
    "arrow": pa.table({"entity_key": ["A", "B"], "x": [1.0, 2.0]}),
    "mapping": {"x": [2.0, 1.0]},
    "float32": pd.DataFrame({"x": np.array([2.0, 1.0], dtype=np.float32)}),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_rows_belong_to_the_entities_that_they_name(live: Serving, kind: str) -> None:
    output = pd.Series({"A": 0.1, "B": 0.2})
    live.record(NAMES, features=FRAMES[kind], output=output, as_of=CLOSE)
    [block] = blocks(live)
    assert {name: block.features_of(name)["x"] for name in "AB"} == {"A": 1.0, "B": 2.0}
    assert block.outputs.tolist() == [0.1 if name == "A" else 0.2 for name in block.entities]


WRONG: dict[str, tuple[type[Exception], dict[str, Any]]] = {
    "a row too few": (InvalidFrame, {"features": {"x": [1.0]}}),
    "an entity without a row": (InvalidFrame, {"features": pd.DataFrame({"x": [1.0]}, ["A"])}),
    "an output too many": (InvalidFrame, {"output": [1.0, 2.0, 3.0]}),
    "an output that is None": (InvalidFrame, {"output": [1.0, None]}),
    "an output that is a text": (InvalidFrame, {"output": ["buy", "sell"]}),
    "a naive as_of": (InvalidTime, {"as_of": NAIVE}),
    "a naive event time": (InvalidTime, {"event_times": {"x": NAIVE}}),
    "an event time of no feature": (InvalidFrame, {"event_times": {"y": CLOSE}}),
    "a complex number": (InvalidValue, {"features": {"x": [1j, 2j]}}),
    "an entity twice": (InvalidFrame, {"entities": ["A", "A"]}),
    "an empty name": (InvalidName, {"entities": ["A", ""]}),
    "an empty request id": (ValueError, {"request_id": ""}),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_kept_is_refused_whole(live: Serving, case: str) -> None:
    error, changed = WRONG[case]
    call = {"entities": ["A", "B"], "features": {"x": [1.0, 2.0]}, "output": [1.0, 2.0]}
    call |= {"as_of": CLOSE} | changed
    with pytest.raises(error):
        live.record(call.pop("entities"), **call)
    assert blocks(live) == []


def test_the_same_request_again_changes_nothing(live: Serving) -> None:
    call = {"output": [0.4], "features": {"x": [1.0]}, "as_of": CLOSE, "request_id": "r1"}
    assert live.record(["A"], **call).is_new
    assert not live.record(["A"], **call, latency=timedelta(seconds=1)).is_new
    assert len(blocks(live)) == 1


@pytest.mark.parametrize(
    "changed", [{"output": [0.5]}, {"features": {"x": [2.0]}}, {"as_of": CLOSE + timedelta(1)}]
)
def test_another_content_under_one_request_id_is_an_error(live: Serving, changed: Any) -> None:
    call = {"output": [0.4], "features": {"x": [1.0]}, "as_of": CLOSE, "request_id": "r1"}
    live.record(["A"], **call)
    with pytest.raises(Contradiction, match="r1"):
        live.record(["A"], **call | changed)
    assert len(blocks(live)) == 1


def test_strategies_have_request_ids_of_their_own(
    serving: Callable[..., Serving], served_database: Any
) -> None:
    other = Serving(served_database, "another")
    assert serving().record("A", output=0.1, request_id="r1").is_new
    assert other.record("A", output=0.2, request_id="r1").is_new


def test_an_output_that_contradicts_the_judged_record_keeps_nothing(live: Serving) -> None:
    live.record("A", output=0.4, as_of=CLOSE)
    with pytest.raises(Contradiction, match=r"A 2024-04-18 .*0.5, recorded 0.4"):
        live.record(["A", "B"], output=[0.5, 0.1], as_of=CLOSE)
    assert [block.entities for block in blocks(live)] == [("A",)]


def test_one_call_may_hold_many_decision_times(live: Serving) -> None:
    times = [CLOSE, CLOSE - timedelta(hours=1), CLOSE]
    live.record(["A", "A", "B"], output=[3.0, 1.0, 4.0], as_of=times, features={"x": [3, 1, 4]})
    early, late = blocks(live)
    assert (early.as_of, early.values.tolist()) == (times[1], [[1.0]])
    assert (late.as_of, late.values.tolist()) == (CLOSE, [[3.0], [4.0]])


def test_a_large_request_is_several_blocks_and_one_transaction(live: Serving) -> None:
    names = [f"N{i:04d}" for i in range(2000)]
    values = np.arange(40_000, dtype=float).reshape(2000, 20)
    frame = pd.DataFrame(values, columns=[f"f{j}" for j in range(20)])
    live.record(names, features=frame, output=values[:, 0], as_of=CLOSE, request_id="all")
    several = blocks(live)
    assert len(several) > 1
    assert sum(len(block.entities) for block in several) == 2000
    [block] = blocks(live, entity="N1234")
    assert block.values[block.rows["N1234"]].tolist() == values[1234].tolist()
    assert not live.record(
        names, features=frame, output=values[:, 0], as_of=CLOSE, request_id="all"
    ).is_new


def test_event_times_differ_by_cell(live: Serving) -> None:
    first, second = CLOSE - timedelta(days=1), CLOSE - timedelta(days=2)
    frame = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0]})
    frame["x__event_time"] = [first, second]
    frame["y__event_time"] = pd.to_datetime([None, second], utc=True)
    live.record(["A", "B"], features=frame, output=[1.0, 2.0], as_of=CLOSE)
    [block] = blocks(live)
    assert block.feature_names == ("x", "y")
    expected = {"A": [to_micros(first), MISSING], "B": [to_micros(second), to_micros(second)]}
    assert {name: block.event[row].tolist() for name, row in block.rows.items()} == expected


def test_the_monitor_judges_what_was_served(live: Serving, served_database: Any) -> None:
    names = [f"N{i:02d}" for i in range(30)]
    live.record(names, output=np.linspace(-1, 1, 30), as_of=CLOSE)
    monitor = DriftMonitor(served_database, live.strategy, tracking_uri=False, notify=())
    returns = {"entity_key": names, "session": [SESSION] * 30, "value": np.linspace(-0.1, 0.1, 30)}
    monitor.record_returns(returns)
    metrics = monitor.calculate_metrics(SESSION)
    assert metrics.n_signals == 30
    assert metrics.ic == pytest.approx(1.0)


def test_a_session_that_was_computed_before_is_computed_again(
    live: Serving, served_database: Any
) -> None:
    monitor = DriftMonitor(served_database, live.strategy, tracking_uri=False, notify=())
    monitor.configure(min_n=2)
    monitor.backfill(SESSION, SESSION)
    live.record(["A", "B"], output=[0.1, 0.2], as_of=CLOSE)
    [metrics] = monitor.backfill(SESSION, SESSION)
    assert metrics.n_signals == 2


def test_a_recorder_does_not_wait_for_a_monitor_that_computes(
    live: Serving, served_database: Any
) -> None:
    live.record("A", output=0.1, as_of=CLOSE - timedelta(days=1))
    monitor = DriftMonitor(served_database, live.strategy, tracking_uri=False, notify=())
    monitor.backfill(SESSION, SESSION)
    with monitor.connect() as conn, conn.transaction():
        conn.execute(_queries.lock_to_compute, {"strategy_id": live.strategy})
        call = {"output": 0.1, "as_of": CLOSE}
        thread = threading.Thread(target=live.record, args=["A"], kwargs=call)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
    [metrics] = monitor.backfill(SESSION, SESSION)
    assert metrics.n_signals == 1


def test_threads_share_one_object(live: Serving) -> None:
    def work(number: int) -> None:
        for i in range(10):
            live.record(f"T{number}-{i}", output=float(i), as_of=CLOSE, features={"x": i})

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(blocks(live)) == 80


def test_one_request_from_many_threads_is_recorded_once(live: Serving) -> None:
    new: list[bool] = []

    def work() -> None:
        new.append(live.record("A", output=0.1, as_of=CLOSE, request_id="once").is_new)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(new) == [False] * 7 + [True]
    assert len(blocks(live)) == 1
