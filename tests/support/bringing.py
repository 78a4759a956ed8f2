"""A sqlite file that MLflow made, and a database in use into which it is brought."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.bringing.merging import Merged, merge_from


@dataclass
class Source:
    """A sqlite file that MLflow made, and its store."""

    path: Path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    @property
    def store(self) -> SqlAlchemyStore:
        return SqlAlchemyStore(self.url, str(self.path.parent / "mlartifacts"))

    def experiment(self, name: str) -> str:
        found = self.store.get_experiment_by_name(name)
        return found.experiment_id if found else str(self.store.create_experiment(name))

    def run(self, name: str = "run", *, experiment: str = "workflow") -> str:
        """A run with two series, a param and tags; it has not ended."""
        run = self.store.create_run(self.experiment(experiment), "me", 1, [RunTag("t", "1")], name)
        run_id: str = run.info.run_id
        points = [Metric("ic", step / 7, 10**12 + step, step) for step in range(300)]
        points += [Metric("odd", math.nan, 10**12, -5), Metric("odd", 1.5, 10**12, -5)]
        self.store.log_batch(run_id, points, [Param("p", "1")], [RunTag("ü", "ß")])
        return run_id


@dataclass
class Target:
    uri: DatabaseURI

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri.url, self.uri.url)

    def merge(self, source: Source | Path, **options: Any) -> Merged:
        url = source.url if isinstance(source, Source) else str(source)
        with db.connect(self.uri, autocommit=True) as conn:
            return merge_from(url, conn, **options)

    def rows(self, query: str) -> list[Any]:
        with db.connect(self.uri, autocommit=True) as conn:
            return conn.execute(query.encode()).fetchall()

    def experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        return found.experiment_id if found else str(self.client.create_experiment(name))
