"""Runs that `neptune-exporter` wrote to disk, loaded by its own loader for MLflow into our store.

The package needs Python 3.13 and is installed from its repository; without it this is skipped.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from mlflow_timescale.db.uri import DatabaseURI

pytest.importorskip("neptune_exporter")
pytestmark = pytest.mark.slow

PROJECT, RUN = "quant/momentum", "MOM-7"
NOW = datetime(2024, 4, 18, tzinfo=timezone.utc)


def export(root: Path) -> None:
    """A run as the exporter writes it: a table of attributes, and the files beside it."""
    from neptune_exporter import model
    from neptune_exporter.utils import sanitize_path_part

    folder = root / "files" / sanitize_path_part(PROJECT)
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"weights")

    def row(path: str, kind: str, **values: Any) -> dict[str, Any]:
        names = {"project_id": PROJECT, "run_id": RUN, "attribute_path": path}
        every = dict.fromkeys(model.SCHEMA.names)
        return every | names | {"attribute_type": kind} | values

    rows = [
        row("sys/name", "string", string_value="baseline"),
        row("sys/tags", "string_set", string_set_value=["live", "ü"]),
        row("params/lr", "float", float_value=0.1),
        row("params/kind", "string", string_value="ridge"),
        row("model/weights", "file", file_value={"path": "weights.bin"}),
    ]
    for step in range(2000):
        time = NOW + timedelta(seconds=step)
        values = {"step": Decimal(step), "timestamp": time, "float_value": step / 7}
        rows.append(row("train/ic", "float_series", **values))
    for step in range(3):
        values = {"step": Decimal(step), "timestamp": NOW, "string_value": f"line {step}"}
        rows.append(row("logs/stdout", "string_series", **values))
    table = (
        root / "data" / sanitize_path_part(PROJECT) / f"{sanitize_path_part(RUN)}_part_0.parquet"
    )
    table.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=model.SCHEMA), table)


def load(root: Path, uri: str) -> None:
    from neptune_exporter.loader_manager import LoaderManager
    from neptune_exporter.loaders.mlflow_loader import MLflowLoader
    from neptune_exporter.storage.parquet_reader import ParquetReader

    reader, loader = ParquetReader(root / "data"), MLflowLoader(tracking_uri=uri)
    LoaderManager(reader, loader, root / "files", 1, progress_bar=False).load()


def test_a_run_of_neptune_comes_whole_and_a_second_load_adds_nothing(
    shared_database: DatabaseURI, tmp_path: Path
) -> None:
    export(tmp_path)
    for _ in range(2):
        load(tmp_path, shared_database.url)
    client = MlflowClient(shared_database.url, shared_database.url)
    experiment = client.get_experiment_by_name(f"{PROJECT}/baseline")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == RUN
    assert run.data.params["params/lr"] == "0.1"
    assert run.data.params["sys/tags"] == "live,ü"
    points = client.get_metric_history(run.info.run_id, "train/ic")
    assert [point.step for point in points] == list(range(2000))
    assert points[5].timestamp == 1000 * int(NOW.timestamp()) + 5000
    assert points[5].value == 5 / 7
    lines = Path(client.download_artifacts(run.info.run_id, "logs/stdout/series.txt")).read_text()
    assert len(lines.splitlines()) == 3
    weights = client.download_artifacts(run.info.run_id, "model/weights/weights.bin")
    assert Path(weights).read_bytes() == b"weights"
