"""Points: what a frame in either layout comes down to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from mlflow_timescale.common.frames import Columns, is_structure, labels
from mlflow_timescale.common.micros import Micros, column_micros
from mlflow_timescale.common.time import from_micros, to_micros

from ..errors import InvalidFrame, InvalidTime, InvalidValue
from .categories import to_label
from .encoding import (
    Floats,
    Values,
    column_values,
    to_json,
    to_number,
    unwrapped,
)
from .names import check_names

Codes = npt.NDArray[np.int32]
LAYOUTS = ("wide", "long")


@dataclass(frozen=True)
class FrameLayout:
    """Which columns of a frame mean what.

    `features` are the columns to write, of which a mapping gives the feature names; `allowed` are
    the names that a view has, and other columns are ignored. None means all columns.
    """

    layout: str = "wide"
    entity: str = "entity_key"
    event_time: str = "event_time"
    ingest_time: str | None = None
    features: Sequence[str] | Mapping[str, str] | None = None
    allowed: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise InvalidFrame(f"layout {self.layout!r} is neither 'wide' nor 'long'")
        if self.layout == "long" and self.features is not None:
            raise InvalidFrame("features names columns of wide frames; filter a long frame instead")
        if self.features is not None:
            _refuse_repeated(list(self._named().values()))

    @property
    def keys(self) -> set[str]:
        """The columns that may be levels of an index."""
        names = {self.entity, self.event_time, self.ingest_time} - {None}
        if self.layout == "long":
            names.add("feature_name")
        return {str(name) for name in names}

    def chosen(self, columns: Columns) -> dict[str, str]:
        """The columns of a wide frame that are written, and the feature of each."""
        if self.features is not None:
            return self._named()
        keys = self.keys
        others = [name for name in columns if name not in keys]
        return {name: name for name in others if self.allowed is None or name in self.allowed}

    def ignored(self, columns: Columns) -> list[str]:
        """The columns of a wide frame that the view does not have."""
        if self.layout == "long" or self.features is not None:
            return []
        written = self.keys | self.chosen(columns).keys()
        return [name for name in columns if name not in written]

    def _named(self) -> dict[str, str]:
        if isinstance(self.features, Mapping):
            return dict(self.features)
        names = [self.features] if isinstance(self.features, str) else self.features or []
        return {name: name for name in names}

    @property
    def identifiers(self) -> set[str]:
        """The columns that a CSV file gives as they are written."""
        return {self.entity} if self.layout == "wide" else {self.entity, "feature_name"}


@dataclass(frozen=True)
class Points:
    """n points. `entity` and `feature` are codes into the two lists of names; times are
    microseconds.

    `ingest` is None for points that become known at the time of the write. `value` is NaN
    where `json` holds text.
    """

    entities: list[str]
    features: list[str]
    entity: Codes
    feature: Codes
    event: Micros
    ingest: Micros | None
    value: Floats
    json: npt.NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return len(self.event)

    def take(self, rows: npt.NDArray[Any]) -> Points:
        """The points at these positions, or where a mask is true."""
        return replace(
            self,
            entity=self.entity[rows],
            feature=self.feature[rows],
            event=self.event[rows],
            ingest=None if self.ingest is None else self.ingest[rows],
            value=self.value[rows],
            json=None if self.json is None else self.json[rows],
        )


def points(columns: Columns, layout: FrameLayout) -> Points:
    """The points of one batch; raises InvalidFrame, InvalidTime or InvalidValue."""
    entities, entity = labels(columns[layout.entity], layout.entity)
    check_names(entities, layout.entity)
    event = column_micros(columns[layout.event_time], layout.event_time)
    ingest = None
    if layout.ingest_time is not None:
        ingest = column_micros(columns[layout.ingest_time], layout.ingest_time)
    build = _wide if layout.layout == "wide" else _long
    return build(columns, layout, (entities, entity, event, ingest))


def one_row(
    entity: str, timestamp: datetime, features: Mapping[str, Any], ingest: datetime | None
) -> Points:
    """The points of one entity at one event time; raises like `points`."""
    check_names([entity], "entity_key")
    check_names(features, "a feature name")
    count = len(features)
    texts = np.full(count, None, dtype=object)
    numbers = np.full(count, np.nan)
    for i, (name, given) in enumerate(features.items()):
        value = unwrapped(given)
        if is_structure(value):
            texts[i] = to_json(value, f"feature {name!r}")
        elif isinstance(value, str):
            texts[i] = to_label(value, f"feature {name!r}")
            if texts[i] is None:
                raise InvalidValue(f"feature {name!r} is an empty text; leave it out")
        else:
            numbers[i] = to_number(value, f"feature {name!r}")
    ingest_times = None
    if ingest is not None:
        ingest_times = np.full(count, to_micros(ingest, "ingest_time"), dtype=np.int64)
    return Points(
        [entity],
        list(features),
        np.zeros(count, dtype=np.int32),
        np.arange(count, dtype=np.int32),
        np.full(count, to_micros(timestamp, "timestamp"), dtype=np.int64),
        ingest_times,
        numbers,
        texts if any(text is not None for text in texts) else None,
    )


def _refuse_repeated(names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise InvalidFrame(f"features is empty or repeats a name: {', '.join(twice) or '{}'}")


def check_order(event: Micros, ingest: Micros | int, forecast: bool, slack: int = 0) -> None:
    """Raise InvalidTime where an event is after its ingest time, unless `forecast` is True."""
    early = event > ingest + slack
    if forecast or not np.any(early):
        return
    row = int(np.argmax(early))
    ingest_time = ingest if isinstance(ingest, int) else ingest[row]
    raise InvalidTime(
        f"{int(early.sum())} point(s) have an event_time after the ingest_time: "
        f"{from_micros(event[row]).isoformat()}, known at {from_micros(ingest_time).isoformat()}. "
        f"Set forecast=True if that is intended; otherwise check the time zone"
    )


_Keys = tuple[list[str], Codes, Micros, "Micros | None"]


def _long(columns: Columns, layout: FrameLayout, keys: _Keys) -> Points:
    entities, entity, event, ingest = keys
    features, feature = labels(columns["feature_name"], "feature_name")
    check_names(features, "feature_name")
    values = column_values(columns["value"], "value")
    found = Points(entities, features, entity, feature, event, ingest, values.number, values.json)
    return found if values.present.all() else found.take(values.present)


def _wide(columns: Columns, layout: FrameLayout, keys: _Keys) -> Points:
    entities, entity, event, ingest = keys
    chosen = layout.chosen(columns)
    if not chosen:
        of_view = f" of the view ({', '.join(sorted(layout.allowed))})" if layout.allowed else ""
        raise InvalidFrame(f"the frame has no feature column{of_view} beside {', '.join(columns)}")
    features = list(chosen.values())
    check_names(features, "the name of a feature column")
    values = [column_values(columns[name], f"feature {name!r}") for name in chosen]
    count = len(features)
    melted = Points(
        entities,
        features,
        np.repeat(entity, count),
        np.tile(np.arange(count, dtype=np.int32), len(entity)),
        np.repeat(event, count),
        None if ingest is None else np.repeat(ingest, count),
        np.column_stack([value.number for value in values]).ravel(),
        _stack_json(values),
    )
    present = np.column_stack([value.present for value in values]).ravel()
    return melted if present.all() else melted.take(present)


def _stack_json(values: list[Values]) -> npt.NDArray[np.object_] | None:
    if all(value.json is None for value in values):
        return None
    absent = np.full(len(values[0].number), None, dtype=object)
    return np.column_stack([absent if v.json is None else v.json for v in values]).ravel()
