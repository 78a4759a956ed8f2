"""The selection of runs and metrics: ids, an experiment, or a filter of MLflow's search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from mlflow_timescale.db import Connection, Database, DatabaseURI, load
from mlflow_timescale.db.revisions import no_schema
from mlflow_timescale.db.rows import scalar, scalars

_queries = load("metric_table")


class Choice:
    """The runs and keys of one read; None stands for all.

    Raises ValueError if both `runs` and one of `experiment` and `filter` are given, and TypeError
    for an argument of another type.
    """

    def __init__(
        self,
        runs: str | Iterable[str] | None,
        keys: str | Iterable[str] | None,
        experiment: str | None,
        filter_string: str | None,
    ) -> None:
        if runs is not None and (experiment is not None or filter_string is not None):
            raise ValueError("give either runs, or an experiment or a filter that selects them")
        self.runs = None if runs is None else names("runs", runs, "run id")
        self.keys = None if keys is None else names("keys", keys, "metric name")
        self.experiment = None if experiment is None else str(experiment)
        self.filter = filter_string
        if filter_string is not None and not isinstance(filter_string, str):
            raise TypeError(
                f"filter takes a filter of MLflow's search_runs, such as \"params.seed = '7'\", "
                f"not {filter_string!r}"
            )

    @contextmanager
    def reading(self, uri: str | DatabaseURI) -> Iterator[tuple[Connection, list[str]]]:
        """A connection on one snapshot, and the ordered ids of the runs.

        Raises LookupError if there is no such experiment, and MigrationError for a database
        without our schema of metrics.
        """
        if not isinstance(uri, (str, DatabaseURI)):
            raise TypeError(f"uri takes the URI of a database, not {uri!r}")
        database = Database(uri, translate=True)
        try:
            ids = self.runs
            if self.filter is not None:
                ids = self._filtered(database)
            with database.transaction() as conn:
                conn.execute(_queries.one_moment)
                _require_marks(conn, database.uri)
                yield conn, self._of_experiment(conn) if ids is None else ids
        finally:
            database.close()

    def _of_experiment(self, conn: Connection) -> list[str]:
        return scalars(conn, _queries.runs_of, {"experiments": self._experiments(conn)})

    def _experiments(self, conn: Connection) -> list[int] | None:
        """The ids of the experiments; an argument is a name first, then an id."""
        return None if self.experiment is None else experiments_named(conn, self.experiment)

    def _filtered(self, database: Database) -> list[str]:
        """The ids of the active runs that MLflow's search finds, in the order of their start."""
        from mlflow import MlflowClient

        with database.transaction() as conn:
            _require_marks(conn, database.uri)
            ids = self._experiments(conn)
            ids = scalars(conn, _queries.all_experiments) if ids is None else ids
        client = MlflowClient(database.uri.url, database.uri.url)
        runs: list[str] = []
        token: str | None = None
        while True:
            page = client.search_runs(
                [str(number) for number in ids],
                self.filter or "",
                max_results=1000,
                order_by=["attributes.start_time"],
                page_token=token,
            )
            runs += [run.info.run_id for run in page]
            if not (token := page.token):
                return runs


def _require_marks(conn: Connection, uri: DatabaseURI) -> None:
    if not scalar(conn, _queries.has_marks):
        raise no_schema(str(uri))


def experiments_named(conn: Connection, experiment: str) -> list[int]:
    """The ids of the experiments with a name, one for each workspace, or with an id.

    Raises LookupError if there is none.
    """
    ids = scalars(conn, _queries.experiments_named, {"experiment": experiment})
    if not ids:
        raise LookupError(f"there is no experiment {experiment!r}")
    return ids


def names(argument: str, given: Any, kind: str) -> list[str]:
    """A list of one or more names, without repetitions.

    >>> names("keys", "ic", "metric name"), names("keys", ["b", "a", "b"], "metric name")
    (['ic'], ['b', 'a'])
    >>> names("runs", [7], "run id")
    Traceback (most recent call last):
    TypeError: runs takes a run id or several, not 7
    """
    if isinstance(given, str):
        return [given]
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise TypeError(f"{argument} takes a {kind} or several, not {given!r}")
    listed = list(given)
    for name in listed:
        if not isinstance(name, str):
            raise TypeError(f"{argument} takes a {kind} or several, not {name!r}")
    return list(dict.fromkeys(listed))
