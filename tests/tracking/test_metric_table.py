"""Metrics as data: the same points as MLflow's own history calls, in one table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

import mlflow_timescale
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.tracking import metric_table

YEAR_9999 = 253_402_300_799_999


@pytest.fixture(scope="module")
def client(
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
) -> Iterator[MlflowClient]:
    with new_database() as uri:
        yield MlflowClient(uri.url, uri.url)


@pytest.fixture(scope="module")
def runs(client: MlflowClient) -> list[str]:
    """Three runs, with numbers and keys of every kind."""
    experiment = client.create_experiment("ü")
    ids = []
    for number in range(3):
        run_id = client.create_run(experiment, start_time=number + 1).info.run_id
        points = [
            Metric("größe/Σ", step / (number + 1), 10**12 + step, step) for step in range(700)
        ]
        points += [
            Metric("odd", value, time, step)
            for step, (value, time) in enumerate(
                [(math.nan, 0), (math.inf, 5), (-0.0, 7), (5e-324, YEAR_9999)], -2
            )
        ]
        client.log_batch(run_id, points, [Param("seed", str(number))])
        ids.append(run_id)
    return ids


def test_the_points_are_those_of_mlflows_histories(client: MlflowClient, runs: list[str]) -> None:
    table = mlflow_timescale.metrics(client.tracking_uri, runs)
    expected = [
        (run, key, m.step, m.timestamp, repr(m.value))
        for run in runs
        for key in ("größe/Σ", "odd")
        for m in sorted(client.get_metric_history(run, key), key=lambda m: m.step)
    ]
    assert str(table.schema.field("timestamp").type) == "timestamp[ms, tz=UTC]"
    columns = [column.to_pylist() for column in table.drop_columns("timestamp").columns]
    columns.insert(3, table["timestamp"].cast("int64").to_pylist())
    assert [(*row[:4], repr(row[4])) for row in zip(*columns, strict=True)] == expected


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"runs": [2, 0], "keys": "odd"}, [2, 0]),
        ({"runs": 1}, [1]),
        ({"experiment": "ü"}, [0, 1, 2]),
        ({"filter": "params.seed = '1'"}, [1]),
        ({"experiment": "ü", "filter": "params.seed != '1'"}, [0, 2]),
        ({"runs": []}, []),
        ({}, [0, 1, 2]),
    ],
)
def test_runs_are_chosen_by_id_experiment_or_filter(
    client: MlflowClient, runs: list[str], choice: dict[str, object], expected: list[int]
) -> None:
    given = choice.get("runs")
    if given is not None:
        choice = choice | {
            "runs": runs[given] if isinstance(given, int) else [runs[i] for i in given]
        }
    table = mlflow_timescale.metrics(client.tracking_uri, **choice)
    assert list(dict.fromkeys(table["run_id"].to_pylist())) == [runs[i] for i in expected]
    assert table.num_rows == len(expected) * (4 if choice.get("keys") else 704)


def test_what_cannot_be_is_refused(client: MlflowClient, runs: list[str]) -> None:
    with pytest.raises(ValueError, match="either runs, or an experiment"):
        mlflow_timescale.metrics(client.tracking_uri, runs, experiment="ü")
    for filter_string in (None, "params.seed = '1'"):
        with pytest.raises(LookupError, match="no experiment 'nowhere'"):
            mlflow_timescale.metrics(
                client.tracking_uri, experiment="nowhere", filter=filter_string
            )
    assert mlflow_timescale.metrics(client.tracking_uri, "0" * 32).num_rows == 0


@pytest.mark.parametrize("read", [mlflow_timescale.metrics, mlflow_timescale.metric_extremes])
@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"runs": 5}, TypeError, "runs takes a run id or several, not 5"),
        ({"runs": [b"x"]}, TypeError, "runs takes a run id or several, not b'x'"),
        ({"keys": [None]}, TypeError, "keys takes a metric name or several, not None"),
        ({"filter": 7}, TypeError, "filter takes a filter of MLflow's search_runs"),
        ({"filter": "seed == 7"}, MlflowException, "Invalid"),
        ({"uri": None}, TypeError, "uri takes the URI of a database, not None"),
        ({"uri": "http://localhost:5000"}, ValueError, "not a database URI"),
    ],
)
def test_an_argument_of_another_kind_is_named(
    client: MlflowClient,
    read: Callable[..., object],
    given: dict[str, object],
    kind: type[Exception],
    message: str,
) -> None:
    with pytest.raises(kind, match=message):
        read(**({"uri": client.tracking_uri} | given))


def test_a_name_goes_before_an_id(client: MlflowClient, runs: list[str]) -> None:
    number = client.get_run(runs[0]).info.experiment_id
    assert mlflow_timescale.metrics(client.tracking_uri, experiment=number).num_rows == 3 * 704
    other = client.create_experiment(number)  # its name is the id of the first
    table = mlflow_timescale.metrics(client.tracking_uri, experiment=number)
    assert table.num_rows == 0
    client.delete_experiment(other)


@pytest.mark.parametrize("size", [1, 19, 20, 64, 65, 66, 10_000])
def test_rows_are_read_in_blocks_of_any_size(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_table, "_BLOCK_BYTES", 100)
    fields = {"fields": 4, "series": 1, "time": 0, "value": 0.5}
    lengths = {"series_length": 4, "step_length": 8, "time_length": 8, "value_length": 8}
    content = np.zeros(50, metric_table._ROW)
    for name, value in {**fields, **lengths}.items():
        content[name] = value
    content["step"] = range(50)
    data = b"x" * metric_table._HEADER_BYTES + content.tobytes() + b"\xff\xff"
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    steps = [int(step) for block in metric_table._blocks(pieces) for step in block["step"]]
    assert steps == list(range(50))
