"""The least and the greatest value of metrics, of many runs, as one Arrow table."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from mlflow_timescale.db import DatabaseURI, load
from mlflow_timescale.db.revisions import MIGRATE
from mlflow_timescale.db.rows import scalar
from mlflow_timescale.tracking.chosen_runs import Choice

_queries = load("metric_table")
_SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("key", pa.string()),
        ("min", pa.float64()),
        ("min_step", pa.int64()),
        ("max", pa.float64()),
        ("max_step", pa.int64()),
    ]
)


def metric_extremes(
    uri: str | DatabaseURI,
    runs: str | Iterable[str] | None = None,
    keys: str | Iterable[str] | None = None,
    *,
    experiment: str | None = None,
    filter: str | None = None,  # noqa: A002
) -> pa.Table:
    """The least and the greatest value of each metric, and the first step of each.

    They are exact at the moment of the call, in any order of writes. The database keeps them with
    the marks of a series, so that only the points after the last mark are read.

    Parameters
    ----------
    uri
        The database, as `mlflow.set_tracking_uri` takes it; not a tracking server's URL.
    runs
        One run id or several; by default all active runs. An unknown id has no metrics.
    keys
        One metric name or several; by default all.
    experiment
        The name or id of an experiment, in place of `runs`.
    filter
        A filter of MLflow's `search_runs`, such as ``"params.seed = '7'"``, in place of `runs`.

    Returns
    -------
    pyarrow.Table
        Columns run_id, key, min (float64), min_step (int64), max and max_step: runs in the order
        given, or of their start; keys by name. NaN does not count: where all values are NaN, the
        four are null. An infinite value counts as MLflow stores it, as ±1.797e308.

    Raises
    ------
    ValueError
        If both `runs` and one of `experiment` and `filter` are given.
    TypeError
        If an argument is of another type.
    LookupError
        If there is no such experiment, or if the schema of the database is of a version without
        extremes.

    References
    ----------
    The view `mlops.metric_extremes` has the same rows for SQL.

    Examples
    --------
    >>> import mlflow, mlflow_timescale
    >>> mlflow.set_tracking_uri(uri)
    >>> with mlflow.start_run() as run:
    ...     for step, loss in enumerate([0.9, 0.4, 0.4, 0.7]):
    ...         mlflow.log_metric("loss", loss, step=step)
    >>> mlflow_timescale.metric_extremes(uri, run.info.run_id).drop_columns("run_id").to_pylist()
    [{'key': 'loss', 'min': 0.4, 'min_step': 1, 'max': 0.9, 'max_step': 0}]
    """
    choice = Choice(runs, keys, experiment, filter)
    with choice.reading(uri) as (conn, ids):
        if not scalar(conn, _queries.has_extremes):
            raise LookupError(f"the schema of this database has no extremes: run `{MIGRATE}` first")
        values = {"runs": ids, "keys": choice.keys}
        rows = conn.execute(_queries.extremes, values, binary=True).fetchall()
    columns = zip(*rows, strict=True) if rows else [()] * len(_SCHEMA)
    return pa.table([pa.array(column) for column in columns], names=_SCHEMA.names).cast(_SCHEMA)
