"""The points of many runs as one Arrow table, by one binary COPY.

MLflow's client has one call for each run and key, and returns an object for each point.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from mlflow_timescale.db import Connection, DatabaseURI, load
from mlflow_timescale.tracking.chosen_runs import Choice

_queries = load("metric_table")
# A row of a binary COPY: the number of its fields, and each field after its length. Big-endian.
_ROW = np.dtype(
    [
        ("fields", ">i2"),
        ("series_length", ">i4"),
        ("series", ">i4"),
        ("step_length", ">i4"),
        ("step", ">i8"),
        ("time_length", ">i4"),
        ("time", ">i8"),
        ("value_length", ">i4"),
        ("value", ">f8"),
    ]
)
_HEADER_BYTES = 19
_BLOCK_BYTES = 8 * 2**20
_SCHEMA = pa.schema(
    [
        ("run_id", pa.dictionary(pa.int32(), pa.string())),
        ("key", pa.dictionary(pa.int32(), pa.string())),
        ("step", pa.int64()),
        ("timestamp", pa.timestamp("ms", tz="UTC")),
        ("value", pa.float64()),
    ]
)


def metrics(
    uri: str | DatabaseURI,
    runs: str | Iterable[str] | None = None,
    keys: str | Iterable[str] | None = None,
    *,
    experiment: str | None = None,
    filter: str | None = None,  # noqa: A002
) -> pa.Table:
    """The points of metrics, of any number of runs, as an Arrow table.

    Parameters
    ----------
    uri
        The database, as `mlflow.set_tracking_uri` takes it; not a tracking server's URL.
    runs
        One run id or several; by default all active runs. An unknown id has no points.
    keys
        One metric name or several; by default all.
    experiment
        The name or id of an experiment, in place of `runs`.
    filter
        A filter of MLflow's `search_runs`, such as ``"params.seed = '7'"``, in place of `runs`.

    Returns
    -------
    pyarrow.Table
        Columns run_id and key (dictionary of string), step (int64), timestamp (ms, UTC) and value
        (float64): runs in the order given, or of their start; keys by name; points by step, then
        by time. `.to_pandas()` and `polars.from_arrow` take it on.

    Raises
    ------
    ValueError
        If both `runs` and one of `experiment` and `filter` are given.
    TypeError
        If an argument is of another type.
    LookupError
        If there is no such experiment.

    References
    ----------
    `COPY ... (FORMAT binary)`, https://www.postgresql.org/docs/current/sql-copy.html

    Examples
    --------
    >>> import mlflow, mlflow_timescale
    >>> mlflow.set_tracking_uri(uri)
    >>> with mlflow.start_run() as run:
    ...     for step in range(3):
    ...         mlflow.log_metric("ic", step / 4, step=step)
    >>> table = mlflow_timescale.metrics(uri, run.info.run_id)
    >>> table["step"].to_pylist(), table["value"].to_pylist()
    ([0, 1, 2], [0.0, 0.25, 0.5])
    """
    choice = Choice(runs, keys, experiment, filter)
    with choice.reading(uri) as (conn, ids):
        values = {"runs": ids, "keys": choice.keys}
        return _table(conn, conn.execute(_queries.series, values).fetchall())


def _table(conn: Connection, series: list[tuple[Any, ...]]) -> pa.Table:
    """The points of series; a series is a run, a key, and the range of its times in ms."""
    runs, keys, firsts, lasts = ([row[part] for row in series] for part in range(4))
    values = {"runs": runs, "keys": keys, "firsts": firsts, "lasts": lasts}
    run_numbers, run_names = _numbered(runs)
    key_numbers, key_names = _numbered(keys)
    batches = []
    with conn.cursor() as cursor, cursor.copy(_queries.copy_out, values) as copy:
        for points in _blocks(copy):
            place = points["series"].astype(np.int64) - 1
            columns = [
                pa.DictionaryArray.from_arrays(run_numbers[place], run_names),
                pa.DictionaryArray.from_arrays(key_numbers[place], key_names),
                pa.array(points["step"].astype(np.int64)),
                pa.array(points["time"].astype(np.int64)).cast(_SCHEMA.field("timestamp").type),
                pa.array(points["value"].astype(np.float64)),
            ]
            batches.append(pa.record_batch(columns, schema=_SCHEMA))
    return pa.Table.from_batches(batches, _SCHEMA)


def _numbered(names: list[str]) -> tuple[np.ndarray[Any, Any], pa.Array]:
    """A number for each name, and the distinct names by number.

    >>> numbers, names = _numbered(["b", "a", "b"])
    >>> numbers.tolist(), names.to_pylist()
    ([0, 1, 0], ['b', 'a'])
    """
    number_of = {name: number for number, name in enumerate(dict.fromkeys(names))}
    numbers = np.array([number_of[name] for name in names], np.int32)
    return numbers, pa.array([*number_of], pa.string())


def _blocks(copy: Iterable[Any]) -> Iterator[np.ndarray[Any, Any]]:
    """The rows of a binary COPY, some megabytes at a time."""
    buffer = bytearray()
    position = _HEADER_BYTES
    for data in copy:
        buffer += data
        if len(buffer) >= _BLOCK_BYTES:
            yield _rows(buffer, position)
            left = (len(buffer) - position) % _ROW.itemsize
            buffer = buffer[len(buffer) - left :]
            position = 0
    if len(buffer) - position >= _ROW.itemsize:
        yield _rows(buffer, position)


def _rows(buffer: bytearray, position: int) -> np.ndarray[Any, Any]:
    """The whole rows from a position on; the trailer of two bytes is shorter than a row."""
    count = (len(buffer) - position) // _ROW.itemsize
    return np.frombuffer(bytes(buffer), _ROW, count, position)
