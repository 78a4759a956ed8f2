"""What belongs to experiments beside runs: datasets, logged models, traces, scorers, reviews.

Their ids are unique in the world, so rows that are here already are the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Any

from mlflow.store.db.base_sql_model import Base
from psycopg import sql
from sqlalchemy import Table, func, select

from mlflow_timescale import db
from mlflow_timescale.db import Connection
from mlflow_timescale.db.rows import scalar
from mlflow_timescale.operations.bringing import copying
from mlflow_timescale.operations.bringing.experiments import Experiments, absolute
from mlflow_timescale.operations.bringing.sources import OpenSource

Note = Callable[[str], None]
_queries = db.load("merging")
_WITH_RUNS = {
    "runs",
    "params",
    "tags",
    "metrics",
    "latest_metrics",
    "experiments",
    "experiment_tags",
}
_REGISTRY = {
    "registered_models",
    "registered_model_tags",
    "registered_model_aliases",
    "model_versions",
    "model_version_tags",
}
# Settings of a server, its work in progress, and what it computes: they are not carried.
NOT_CARRIED = {
    "webhooks",
    "webhook_events",
    "secrets",
    "endpoints",
    "endpoint_bindings",
    "endpoint_model_mappings",
    "endpoint_tags",
    "model_definitions",
    "guardrails",
    "guardrail_configs",
    "budget_policies",
    "jobs",
    "job_locks",
    "scheduler_leases",
    "mcp_servers",
    "mcp_access_endpoints",
    "mcp_server_aliases",
    "mcp_server_tags",
    "mcp_server_versions",
    "mcp_server_version_tags",
    "online_scoring_configs",
}
# Sums that the server computes from traces, and workspaces, which come with their experiments.
_COMPUTED = {
    "sql_assessment_daily_rollups",
    "sql_span_cost_daily_rollups",
    "sql_trace_metric_daily_rollups",
    "sql_trace_rollup_rebuild_queue",
    "workspaces",
}
_RUN_COLUMNS = ("run_id", "source_run_id", "run_uuid")


def add(
    source: OpenSource,
    conn: Connection,
    experiments: Experiments,
    left_out: Set[str],
    note: Note,
) -> dict[str, int]:
    """Add the rows that are not here, in one transaction; return their number by table.

    What belongs to a run of `left_out` is left out too.
    """
    apart = _WITH_RUNS | _REGISTRY | _COMPUTED
    added = {}
    with conn.transaction():
        rows = _OtherRows(source, conn, experiments, left_out, note)
        for table in Base.metadata.sorted_tables:
            if table.name in apart or not (count := _count(source, table)):
                continue
            if table.name in NOT_CARRIED:
                note(f"{table.name}: {count} rows are not carried into a database in use")
            else:
                added[table.name] = rows.add(table)
    return added


def model_locations(source: OpenSource) -> dict[str, str | None]:
    """Where the artifacts of the logged models of a source are."""
    models = Base.metadata.tables["logged_models"]
    rows = source.rows.execute(select(models.c.model_id, models.c.artifact_location))
    return {model_id: absolute(location, source.home) for model_id, location in rows}


def _count(source: OpenSource, table: Table) -> int:
    return int(source.rows.execute(select(func.count()).select_from(table)).scalar_one())


@dataclass
class _OtherRows:
    source: OpenSource
    conn: Connection
    experiments: Experiments
    left_out: Set[str]
    note: Note
    datasets: dict[str, str] = field(default_factory=dict)

    def add(self, table: Table) -> int:
        rows = copying.read_rows(self.source.rows, table)
        copying.stage(self.conn, table, copying.converted(table, rows, self._fitted(table.name)))
        if table.name == "datasets":
            self.datasets = dict(self.conn.execute(_queries.dataset_names).fetchall())
        if table.name == "logged_models":
            self.conn.execute(_queries.refresh_models)
        stage = copying.stage_of(table)
        parents = _parents(table)
        columns = [sql.Identifier(column.name) for column in copying.columns_of(table)]
        query = _queries.add_rows.format(
            table=sql.Identifier(table.name),
            columns=sql.SQL(", ").join(columns),
            stage=stage,
            parents=parents,
        )
        added = self.conn.execute(query).rowcount
        orphans = scalar(self.conn, _queries.orphans.format(stage=stage, parents=parents))
        # Tags of an input belong to the id of the input, which another one may have here.
        if orphans and table.name != "input_tags":
            self.note(f"{table.name}: {orphans} rows left out: what they belong to is not here")
        return added

    def _fitted(self, name: str) -> copying.Convert:
        """What changes in a row of a table, or None for one that is left out."""

        def convert(row: dict[str, Any]) -> dict[str, Any] | None:
            if any(row.get(column) in self.left_out for column in _RUN_COLUMNS):
                return None
            if name in ("inputs", "entity_associations"):
                return self._association(row)
            if "experiment_id" in row:
                row["experiment_id"] = self.experiments.id_here(row["experiment_id"])
            if "dataset_uuid" in row and name != "datasets":
                row["dataset_uuid"] = self.datasets.get(row["dataset_uuid"], row["dataset_uuid"])
            if "artifact_location" in row:
                row["artifact_location"] = absolute(row["artifact_location"], self.source.home)
            return row

        return convert

    def _association(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """A link between two entities, each named by kind and id."""
        for end in ("source", "destination"):
            kind, number = row[f"{end}_type"], row[f"{end}_id"]
            if number in self.left_out:
                return None
            if kind.lower() == "experiment":
                row[f"{end}_id"] = self.experiments.id_here(number)
            elif kind == "DATASET":
                row[f"{end}_id"] = self.datasets.get(number, number)
        return row


def _parents(table: Table) -> sql.Composable:
    """The condition that all rows are here that a row refers to."""
    conditions = []
    for constraint in table.foreign_key_constraints:
        for key in constraint.elements:
            conditions.append(
                _queries.parent.format(
                    given=sql.Identifier("given", key.parent.name),
                    table=sql.Identifier(key.column.table.name),
                    column=sql.Identifier(key.column.name),
                )
            )
    return sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("true")
