"""Training sets from the lake on many machines, with Daft (extra `lake`): on Ray, or here.

Series never interact, and within one the lake is ordered by known_at without ties, so Daft's own
as-of join by entity gives exactly what the database gives. On any other engine do the same, or give
`Lake.training_frame` the `map` of its executor.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mlflow_timescale.common.frames import Frame
from mlflow_timescale.common.micros import column_micros
from mlflow_timescale.common.time import fixed_duration

from ..catalogue.selection import ANY_VERSION, Versions, select
from ..errors import FeatureError
from ..read.ages import AgeLimit
from .lake import Lake

if TYPE_CHECKING:
    import daft

_EVENT, _VALUE = "__event_time", "__value"


def daft_training_frame(
    lake: Lake,
    spine: Any,
    features: str | Sequence[str],
    *,
    entity: str = "entity_key",
    as_of: str = "as_of",
    feature_version: Versions = None,
    max_age: timedelta | str | None = None,
    structures: Sequence[str] = (),
) -> daft.DataFrame:
    """`Lake.training_frame` as a lazy Daft frame, for spines that are larger than a machine.

    `spine` is a Daft frame whose `as_of` is a timestamp in UTC, or any frame in memory. The result
    has its rows in no order, as Daft's frames have. Features named in `structures` come as JSON
    text, all others as numbers. Raises UnknownFeature, and FeatureError without Daft.
    """
    chosen = lake.check(select(list(features) if not isinstance(features, str) else features,
                               feature_version))  # fmt: skip
    frame = _as_daft(spine, as_of)
    rows = _daft().read_parquet(lake.files())
    for name, version in zip(chosen.names, chosen.versions, strict=True):
        versions = lake.manifest.versions[name] if version == ANY_VERSION else [version]
        value = "value_json" if name in structures else "value"
        for known in versions:  # lower ones first: a higher one that has a value replaces them
            side = _side(rows, name, known, value, entity)
            frame = _choose(_join(frame, side, entity, as_of), name, first=known == versions[0])
        frame = _expire(frame, name, as_of, max_age)
    return frame


def _side(rows: daft.DataFrame, name: str, version: int, value: str, entity: str) -> daft.DataFrame:
    """One version of one feature, with the columns of the join."""
    col = _daft().col
    mine = rows.where((col("feature_name") == name) & (col("feature_version") == version))
    return mine.select(
        col("entity_key").alias(entity),
        col("known_at").alias("__known_at"),
        col("event_time").alias("__next" + _EVENT),
        col(value).alias("__next" + _VALUE),
    )


def _join(frame: daft.DataFrame, side: daft.DataFrame, entity: str, as_of: str) -> daft.DataFrame:
    joined = frame.join_asof(side, left_on=as_of, right_on="__known_at", by=entity)
    return joined.exclude("__known_at")


def _choose(frame: daft.DataFrame, name: str, *, first: bool) -> daft.DataFrame:
    """The value of the version that was joined last, where it has one."""
    col = _daft().col
    event, value = col("__next" + _EVENT), col("__next" + _VALUE)
    if not first:
        when, absent = _daft().functions.when, event.is_null()
        value = when(absent, then=col(name)).otherwise(value)
        event = when(absent, then=col(_EVENT)).otherwise(event)
    chosen = frame.with_columns({name: value, _EVENT: event})
    return chosen.exclude("__next" + _EVENT, "__next" + _VALUE)


def _expire(
    frame: daft.DataFrame, name: str, as_of: str, max_age: timedelta | str | None
) -> daft.DataFrame:
    if max_age is not None:
        daft = _daft()
        micros = [daft.col(c).cast(daft.DataType.int64()) for c in (as_of, _EVENT)]
        limit = AgeLimit(fixed_duration(max_age, "max_age")).micros
        if limit is not None:
            alive = micros[1] >= micros[0] - limit
            frame = frame.with_column(name, daft.functions.when(alive, then=daft.col(name)))
    return frame.exclude(_EVENT)


def _as_daft(spine: Any, as_of: str) -> daft.DataFrame:
    """The spine with its times as Daft compares them: microseconds in UTC."""
    daft = _daft()
    if isinstance(spine, daft.DataFrame):
        return spine.with_column(as_of, daft.col(as_of).cast(daft.DataType.timestamp("us", "UTC")))
    frame = Frame(spine)
    times = column_micros(frame.column(as_of), as_of, missing=True)
    table = frame.table()
    arrays = {name: _decoded(table[name]) for name in table.column_names}
    arrays[as_of] = pa.array(times.view("M8[us]")).cast(pa.timestamp("us", "UTC"))
    return daft.from_arrow(pa.table(arrays))


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    is_dictionary = pa.types.is_dictionary(column.type)
    return column.cast(column.type.value_type) if is_dictionary else column


def _daft() -> Any:
    try:
        import daft
        import daft.functions
    except ImportError as exc:
        raise FeatureError("Daft is not installed: pip install 'mlflow-timescale[lake]'") from exc
    return daft
