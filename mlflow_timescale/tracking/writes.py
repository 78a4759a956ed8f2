"""Writes to a run: one statement over arrays for each call, one pipeline for each batch.

The SQL functions check the run themselves: see sql/tracking/functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

from mlflow_timescale.common import attribution
from mlflow_timescale.db import Connection
from mlflow_timescale.db.queries import load
from mlflow_timescale.tracking.points import MetricPoints, columns, fields, model_columns

_queries = load("tracking")


@dataclass(frozen=True)
class Statement:
    """A query and its arguments."""

    query: Any
    arguments: dict[str, Any]


@dataclass(frozen=True)
class RunWrites:
    """The statements that write to one run."""

    run_id: str
    workspace: str | None

    def check(self) -> Statement:
        """Raise as MLflow does where the run does not exist or is deleted; write nothing."""
        return self._statement(_queries.open_run)

    def batch(
        self,
        batch: MetricPoints,
        metrics: Sequence[Metric],
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
    ) -> list[Statement]:
        """The statements of one call; `batch` holds the points of `metrics`."""
        statements = []
        if params:
            statements.append(self.params(params))
        if metrics:
            statements.append(self.metrics(batch))
        if any(metric.model_id is not None for metric in metrics):
            statements.append(self.model_metrics(metrics))
        if tags:
            statements.append(self.tags(tags))
        return statements or [self.check()]

    def metrics(self, batch: MetricPoints) -> Statement:
        """Insert points and update the latest metrics."""
        if len(batch.every) == 1:
            return self._statement(_queries.log_metric, fields(batch.every[0]))
        return self._statement(_queries.log_metrics, columns(batch))

    def model_metrics(self, metrics: Sequence[Metric]) -> Statement:
        """Insert the metrics that belong to logged models."""
        arguments = {"dataset_uuid": None, **model_columns(metrics)}
        return self._statement(_queries.log_model_metrics, arguments)

    def params(self, params: Sequence[Param]) -> Statement:
        """Insert params; raises ParamsChanged where one exists with another value."""
        return self._statement(_queries.log_params, _pairs(params))

    def tags(self, tags: Sequence[RunTag]) -> Statement:
        """Set tags; the last value of a key wins. The name tag renames the run."""
        last = {tag.key: tag for tag in tags}
        # MLflow ignores an empty name.
        if MLFLOW_RUN_NAME in last and not last[MLFLOW_RUN_NAME].value:
            del last[MLFLOW_RUN_NAME]
        return self._statement(_queries.set_tags, {**attributed(), **_pairs(last.values())})

    def _statement(self, query: Any, arguments: dict[str, Any] | None = None) -> Statement:
        run = {"run_id": self.run_id, "workspace": self.workspace}
        return Statement(query, {**run, **(arguments or {})})


def attributed() -> dict[str, str]:
    """Who changes tags, and why, for the triggers that keep the history of some."""
    now = attribution.current()
    return {
        "authenticated": now.authenticated or "",
        "claimed": now.claimed or "",
        "reason": now.reason,
    }


def send(conn: Connection, statements: Sequence[Statement]) -> None:
    """Run statements as one transaction, in one round trip; `conn` is in autocommit mode."""
    if len(statements) == 1:
        # A pipeline costs the client four times as much.
        conn.execute(statements[0].query, statements[0].arguments, prepare=True)
        return
    with conn.pipeline():
        for statement in statements:
            conn.execute(statement.query, statement.arguments, prepare=True)


def _pairs(items: Any) -> dict[str, list[str | None]]:
    ordered = sorted(items, key=lambda item: item.key)
    return {
        "keys": [item.key for item in ordered],
        "values": [None if item.value is None else str(item.value) for item in ordered],
    }
