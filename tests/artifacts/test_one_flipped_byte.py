"""Flip one byte of a stored model, wherever it is kept: it cannot be loaded, and audits find it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import psycopg
import pytest
from mlflow.exceptions import MlflowException

from mlflow_timescale import ModelRegistry
from mlflow_timescale.artifacts import verify
from mlflow_timescale.artifacts.ledger import Selection
from mlflow_timescale.db.uri import DatabaseURI

BUCKET, WEIGHTS = "models", "python_model.pkl"
Flip = Callable[[], None]


@pytest.fixture
def in_database(conn: psycopg.Connection, toolbox: Any) -> tuple[str, Flip]:
    return "timescaledb-artifacts:/9", lambda: toolbox.flip_stored_byte(conn, WEIGHTS)


@pytest.fixture
def on_disk(tmp_path: Path, toolbox: Any) -> tuple[str, Flip]:
    def flip() -> None:
        (file,) = tmp_path.rglob(WEIGHTS)
        toolbox.flip_byte_on_disk(file)

    return f"sha256+file://{tmp_path}/root", flip


@pytest.fixture
def on_s3(s3: Any) -> tuple[str, Flip]:
    def flip() -> None:
        listed = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
        (key,) = [item["Key"] for item in listed if item["Key"].endswith(WEIGHTS)]
        data = bytearray(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        data[len(data) // 2] ^= 1
        s3.put_object(Bucket=BUCKET, Key=key, Body=bytes(data))

    return f"sha256+s3://{BUCKET}/root", flip


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["in_database", "on_disk", "on_s3"])
def test_one_flipped_byte_is_always_noticed(
    kept: str, request: pytest.FixtureRequest, tracking: DatabaseURI, toolbox: Any
) -> None:
    location, flip = request.getfixturevalue(kept)
    experiment = mlflow.create_experiment("model", location)
    with mlflow.start_run(experiment_id=experiment) as run:
        logged = toolbox.log_model(registered_model_name="momentum")
    uris = (logged.model_uri, "models:/momentum/1", f"runs:/{run.info.run_id}/model")
    for uri in uris:
        assert mlflow.pyfunc.load_model(uri).predict([1.0]) == [2.0]
    assert verify.audit(tracking, Selection()).passed
    flip()
    for uri in uris:
        with pytest.raises(MlflowException, match="is not what was logged"):
            mlflow.pyfunc.load_model(uri)
    with pytest.raises(MlflowException, match="is not what was logged"):
        ModelRegistry(tracking).load_model("momentum/1")
    report = verify.audit(tracking, Selection())
    assert [Path(check.location).name for check in report.failures] == [WEIGHTS]
