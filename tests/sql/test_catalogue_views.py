"""mlops.models, mlops.model_metrics and mlops.model_training_runs answer for MLflow's registry."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import mlflow
import psycopg
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric
from psycopg.rows import dict_row

from mlflow_timescale.db.uri import DatabaseURI

CLOSE = datetime(2015, 12, 31, 21, tzinfo=timezone.utc)
MS = int(CLOSE.timestamp() * 1000)


@pytest.fixture
def client(database: DatabaseURI) -> Iterator[MlflowClient]:
    mlflow.set_tracking_uri(database.url)
    yield MlflowClient()
    mlflow.set_tracking_uri(None)


@pytest.fixture
def registered(client: MlflowClient) -> str:
    """A run with everything that the views show, registered as `momentum`, version 1."""
    tags = {
        "dataset_start": "1990-01-02",
        "dataset_end": "2015-12-31T21:00:00+00:00",
        "mlflow.source.git.commit": "c0ffee",
    }
    run_id = client.create_run("0", start_time=MS, tags=tags).info.run_id
    client.log_param(run_id, "lookback", 120)
    client.log_batch(
        run_id,
        [
            Metric("test/ic", 0.01, MS, 0),
            Metric("test/ic", 0.03, MS, 1),
            Metric("loss", 0.5, MS, 0),
            Metric("grad/norm", math.nan, MS, 0),
            Metric("backtest/ratio", math.inf, MS, 0),
            Metric("live/ratio", -math.inf, MS, 0),
        ],
    )
    client.set_terminated(run_id, "FINISHED", end_time=MS + 60_000)
    client.create_registered_model("momentum", {"desk": "equity"}, "follows winners")
    client.create_model_version(
        "momentum", f"runs:/{run_id}/model", run_id, tags={"strategy_type": "momentum"}
    )
    client.set_registered_model_alias("momentum", "champion", "1")
    client.set_registered_model_alias("momentum", "baseline", "1")
    return run_id


def rows(conn: psycopg.Connection, query: str, *values: object) -> list[dict[str, Any]]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, values or None).fetchall()


def test_a_version_is_told_with_its_parameters_metrics_and_code(
    registered: str, conn: psycopg.Connection
) -> None:
    (row,) = rows(conn, "SELECT * FROM mlops.models WHERE name = 'momentum'")
    assert row | {"created_at": None, "checksum": None} == {
        "workspace": "default",
        "name": "momentum",
        "version": 1,
        "strategy_type": "momentum",
        "description": "follows winners",
        "created_at": None,
        "status": "READY",
        "stage": "None",
        "aliases": ["baseline", "champion"],
        "run_id": registered,
        "model_id": None,
        "source": f"runs:/{registered}/model",
        "parameters": {"lookback": "120"},
        "metrics": {
            "test/ic": 0.03,
            "loss": 0.5,
            "grad/norm": "NaN",
            "backtest/ratio": "Infinity",
            "live/ratio": "-Infinity",
        },
        "trained_at": datetime(2015, 12, 31, 21, 1, tzinfo=timezone.utc),
        "git_sha": "c0ffee",
        "tags": {"desk": "equity", "strategy_type": "momentum"},
        "checksum": None,
    }
    assert row["created_at"].tzinfo is not None


def test_every_metric_point_says_which_dataset_it_is_from(
    registered: str, conn: psycopg.Connection
) -> None:
    found = rows(
        conn,
        "SELECT metric_name, dataset_type, step, value, evaluated_at FROM mlops.model_metrics "
        "WHERE name = 'momentum' AND version = 1 ORDER BY metric_name, dataset_type, step",
    )
    assert [(r["metric_name"], r["dataset_type"], r["step"]) for r in found] == [
        ("grad/norm", None, 0),
        ("ic", "test", 0),
        ("ic", "test", 1),
        ("loss", None, 0),
        ("ratio", "backtest", 0),
        ("ratio", "live", 0),
    ]
    values = [r["value"] for r in found]
    assert math.isnan(values[0])
    assert values[1:] == [0.01, 0.03, 0.5, math.inf, -math.inf]
    assert {r["evaluated_at"] for r in found} == {CLOSE}


def test_a_training_run_is_told_with_its_data_period(
    registered: str, conn: psycopg.Connection
) -> None:
    (row,) = rows(conn, "SELECT * FROM mlops.model_training_runs WHERE name = 'momentum'")
    assert row == {
        "run_id": registered,
        "workspace": "default",
        "name": "momentum",
        "version": 1,
        "params": {"lookback": "120"},
        "dataset_start": datetime(1990, 1, 2, tzinfo=timezone.utc),
        "dataset_end": CLOSE,
        "started_at": CLOSE,
        "finished_at": datetime(2015, 12, 31, 21, 1, tzinfo=timezone.utc),
        "status": "completed",
        "git_sha": "c0ffee",
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2015-12-31", datetime(2015, 12, 31, tzinfo=timezone.utc)),
        ("2015-12-31T16:00:00-05:00", CLOSE),
        ("2015-02-30", None),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_a_time_is_read_in_utc_and_nonsense_is_null(
    conn: psycopg.Connection, given: str | None, expected: datetime | None
) -> None:
    conn.execute("SET TIME ZONE 'America/New_York'")
    (row,) = rows(conn, "SELECT mlops.utc_time(%s) AS time", given)
    assert row["time"] == expected


def test_deleted_versions_and_prompts_are_not_models(
    registered: str, client: MlflowClient, conn: psycopg.Connection
) -> None:
    mlflow.genai.register_prompt("greeting", "Hello {{name}}")
    client.delete_model_version("momentum", "1")
    for view in ("models", "model_metrics", "model_training_runs"):
        assert rows(conn, f"SELECT * FROM mlops.{view}") == []


def test_a_version_whose_run_was_purged_is_still_a_model(
    client: MlflowClient, conn: psycopg.Connection
) -> None:
    client.create_registered_model("orphan")
    client.create_model_version("orphan", "s3://models/orphan")
    (row,) = rows(conn, "SELECT * FROM mlops.models")
    assert (row["name"], row["parameters"], row["metrics"]) == ("orphan", {}, {})
    assert row["trained_at"] is None
    assert rows(conn, "SELECT * FROM mlops.model_training_runs") == []


def test_a_series_logged_before_its_model_is_whole(
    client: MlflowClient, conn: psycopg.Connection
) -> None:
    run_id = client.create_run("0").info.run_id
    client.log_batch(run_id, [Metric("train/loss", 9 - step, MS, step) for step in range(5)])
    model_id = _log_model(client, run_id)
    client.log_batch(run_id, [Metric("train/loss", 9, MS, 0, model_id, run_id=run_id)])
    _register(client, model_id, "tree")
    assert [r["value"] for r in _values(conn, "tree", "loss")] == [9, 8, 7, 6, 5]
    (row,) = rows(conn, "SELECT metrics FROM mlops.models")
    assert row["metrics"] == {"train/loss": 5}


def test_what_another_run_logs_for_a_model_counts(
    client: MlflowClient, conn: psycopg.Connection
) -> None:
    trained = client.create_run("0").info.run_id
    client.log_metric(trained, "test/ic", 0.03)
    model_id = _log_model(client, trained)
    _register(client, model_id, "tree")
    live = client.create_run("0").info.run_id
    client.log_metric(live, "live/ic", math.nan, model_id=model_id)
    (row,) = rows(conn, "SELECT metrics FROM mlops.models")
    assert row["metrics"] == {"test/ic": 0.03, "live/ic": "NaN"}
    (point,) = rows(conn, "SELECT * FROM mlops.model_metrics WHERE dataset_type = 'live'")
    assert math.isnan(point["value"])
    assert point["run_id"] == live


def test_checkpoints_of_one_run_keep_their_metrics_apart(
    client: MlflowClient, conn: psycopg.Connection
) -> None:
    run_id = client.create_run("0").info.run_id
    for step, ic in enumerate([0.01, 0.05, 0.02]):
        model_id = _log_model(client, run_id, step)
        client.log_metric(run_id, "val/ic", ic, step=step, timestamp=MS, model_id=model_id)
        _register(client, model_id, "tree")
    client.log_metric(run_id, "train/seconds", 60)
    found = rows(conn, "SELECT version, metrics FROM mlops.models ORDER BY version")
    assert [row["metrics"] for row in found] == [
        {"val/ic": ic, "train/seconds": 60} for ic in (0.01, 0.05, 0.02)
    ]
    assert [r["value"] for r in _values(conn, "tree", "ic")] == [0.01, 0.05, 0.02]


def _log_model(client: MlflowClient, run_id: str, step: int = 0) -> str:
    model_id = client.create_logged_model("0", "model", source_run_id=run_id).model_id
    client.log_outputs(run_id, [LoggedModelOutput(model_id, step)])
    return str(model_id)


def _register(client: MlflowClient, model_id: str, name: str) -> None:
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    client.create_model_version(name, f"models:/{model_id}")


def _values(conn: psycopg.Connection, name: str, metric: str) -> list[dict[str, Any]]:
    return rows(
        conn,
        "SELECT value FROM mlops.model_metrics WHERE name = %s AND metric_name = %s "
        "ORDER BY version, step",
        name,
        metric,
    )


@pytest.mark.parametrize("view", ["models", "model_metrics", "model_training_runs"])
def test_a_filter_on_the_name_reaches_mlflows_tables(view: str, conn: psycopg.Connection) -> None:
    explained = rows(conn, f"EXPLAIN SELECT * FROM mlops.{view} WHERE name = 'momentum'")
    plan = [row["QUERY PLAN"].strip() for row in explained]
    assert not [line for line in plan if "Function Scan" in line]
    scans = [i for i, line in enumerate(plan) if " on model_versions" in line]
    assert scans
    for scan in scans:
        found_by = " ".join(plan[scan + 1 : scan + 3])
        assert "(name)::text = 'momentum'" in found_by or "(name)::text = (v.name)" in found_by


def test_mlflow_may_alter_its_tables_under_the_views(
    registered: str, conn: psycopg.Connection
) -> None:
    conn.execute("ALTER TABLE params ALTER COLUMN value TYPE text")
    conn.execute("ALTER TABLE model_versions DROP COLUMN user_id")
    (row,) = rows(conn, "SELECT parameters FROM mlops.models")
    assert row["parameters"] == {"lookback": "120"}


def test_tables_of_the_same_name_in_the_users_schema_are_not_mistaken_for_mlflows(
    registered: str, conn: psycopg.Connection
) -> None:
    conn.execute("CREATE SCHEMA trading")
    for table in ("runs", "metrics", "params", "tags", "model_versions"):
        conn.execute(f"CREATE TABLE trading.{table} (id integer)")
    conn.execute("SET search_path = trading, public")
    for view in ("models", "model_metrics", "model_training_runs"):
        assert rows(conn, f"SELECT * FROM mlops.{view}")
