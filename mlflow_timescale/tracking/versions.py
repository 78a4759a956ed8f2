"""Model versions with their aliases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from mlflow.entities.model_registry import ModelVersion

from mlflow_timescale.db.queries import load
from mlflow_timescale.tracking.errors import translated
from mlflow_timescale.tracking.writes import Connection

_queries = load("tracking")


def add_aliases(conn: Connection, versions: Sequence[ModelVersion], workspace: str) -> None:
    """Fill in the aliases of all these versions with one statement."""
    arguments = {
        "workspace": workspace,
        "names": [version.name for version in versions],
        "versions": [int(version.version) for version in versions],
    }
    aliases = defaultdict(list)
    with translated():
        for name, number, alias in conn.execute(_queries.aliases_of_versions, arguments):
            aliases[name, number].append(alias)
    for version in versions:
        version.aliases = aliases[version.name, int(version.version)]
