"""A model that is logged in a moment, files for the repositories, an S3 on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import mlflow
import psycopg
import pytest
import requests
from mlflow.models.model import ModelInfo
from moto.server import ThreadedMotoServer

from mlflow_timescale.artifacts.contents import CHUNK
from mlflow_timescale.db.uri import DatabaseURI

LARGE = os.urandom(2 * CHUNK + 17)


class Doubles(mlflow.pyfunc.PythonModel):
    """A model in the fewest lines."""

    def predict(self, model_input: list[float]) -> list[float]:
        return [2 * value for value in model_input]


class Toolbox:
    """What the tests of this folder do again and again."""

    large = LARGE
    bucket = "models"

    @staticmethod
    def log_model(**keywords: object) -> ModelInfo:
        return mlflow.pyfunc.log_model(
            name="model", python_model=Doubles(), pip_requirements=["mlflow"], **keywords
        )

    @staticmethod
    def contents_of(directory: Path) -> dict[str, bytes]:
        return {
            file.relative_to(directory).as_posix(): file.read_bytes()
            for file in directory.rglob("*")
            if file.is_file()
        }

    @staticmethod
    def flip_stored_byte(conn: psycopg.Connection, path: str) -> None:
        """Change one byte of a file in the in-database store, without a record."""
        changed = conn.execute(
            "UPDATE mlops.artifact_chunks SET data = set_byte(data, 0, get_byte(data, 0) # 1) "
            "WHERE number = 0 AND content_id IN "
            "(SELECT content_id FROM mlops.artifact_files WHERE path LIKE %s)",
            [f"%{path}"],
        )
        assert changed.rowcount == 1

    @staticmethod
    def flip_byte_on_disk(file: Path) -> None:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)


@pytest.fixture
def toolbox() -> Toolbox:
    return Toolbox()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A small tree: an empty file, a large one, and the same bytes under two names."""
    root = tmp_path / "logged"
    (root / "model" / "deep").mkdir(parents=True)
    (root / "empty.txt").write_bytes(b"")
    (root / "model" / "weights.bin").write_bytes(LARGE)
    (root / "model" / "deep" / "a.json").write_bytes(b"{}")
    (root / "model" / "deep" / "b.json").write_bytes(b"{}")
    return root


@pytest.fixture
def tracking(database: DatabaseURI) -> DatabaseURI:
    """`database`, with MLflow pointed at it."""
    mlflow.set_tracking_uri(database.url)
    mlflow.set_registry_uri(None)
    return database


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """The server's URL, one server a module."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an empty S3 that MLflow is pointed at."""
    for name, value in {
        "MLFLOW_S3_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=s3_server)
    client.create_bucket(Bucket=Toolbox.bucket)
    yield client
    requests.post(f"{s3_server}/moto-api/reset", timeout=10)
