"""One point-in-time question: which rows and features, as known and written when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from mlflow_timescale.common.time import Duration, SessionCount, parse_duration

from ..catalogue.definitions import FeatureView
from ..catalogue.selection import Features, FeatureSelection, Versions, select
from .ages import AgeLimit, Calendar, Limits
from .spine import EntityColumns, Spine, read_spine

OF_VIEW = "view"  # the maximum staleness of each feature is that of its view


@dataclass(frozen=True)
class PointInTimeQuery:
    """What a training set holds. The arguments are those of `FeatureStore.training_frame`.

    `entity` and `as_of` name columns of the spine. Values with an event_time before
    as_of - max_age are left out, and those that were written after `written_by`. `recorded` are the
    limits of a snapshot, which replace all others. Cells outside of `universe` are empty.
    """

    features: Features
    entity: EntityColumns = "entity_key"
    as_of: str = "as_of"
    feature_version: Versions = None
    max_age: Duration | str | None = None
    written_by: datetime | None = None
    calendar: Calendar | None = None
    max_staleness: Duration | str | None = OF_VIEW
    recorded: Limits | None = None
    universe: Any = None

    @cached_property
    def selection(self) -> FeatureSelection:
        """The features in order, and their versions. Raises UnknownFeature or FeatureError."""
        return select(self.features, self.feature_version)

    @property
    def versions(self) -> dict[str, int | str]:
        """The version of each feature, as `feature_version` takes it."""
        names, versions = self.selection
        return {name: v or "newest" for name, v in zip(names, versions, strict=True)}

    @cached_property
    def limits(self) -> Limits:
        """The limits on the age of each feature's values. Raises InvalidTime."""
        if self.recorded is not None:
            return {name: self.recorded.get(name, ()) for name in self.selection.names}
        views = _views(self.features)
        return {
            name: age_limits(views.get(name), self.max_age, self.calendar, self.max_staleness)
            for name in self.selection.names
        }

    def spine(self, frame: Any, *, missing: bool = False) -> Spine:
        """Read a spine: a frame of any kind, or (entity, as_of) pairs.

        Raises InvalidFrame or InvalidTime; for a missing as_of unless `missing` allows it.
        """
        return read_spine(frame, self.selection.names, self.entity, self.as_of, missing=missing)


def age_limits(
    view: FeatureView | None,
    max_age: Duration | str | None,
    calendar: Calendar | None = None,
    max_staleness: Duration | str | None = OF_VIEW,
) -> tuple[AgeLimit, ...]:
    """The limits on the age of one feature: of the call, and of the view that is read.

    `calendar` is that of the call; sessions are counted by the view's where the call has none.
    Raises InvalidTime.
    """
    of_view = None if view is None else view.calendar
    limits = []
    if max_age is not None:
        age = parse_duration(max_age, "max_age")
        is_fixed = not isinstance(age, SessionCount)
        limits.append(AgeLimit(age, calendar or (None if is_fixed else of_view)))
    if max_staleness == OF_VIEW:
        max_staleness = None if view is None else view.max_staleness
        calendar = of_view
    if max_staleness is not None:
        limit = parse_duration(max_staleness, "max_staleness")
        limits.append(AgeLimit(limit, calendar or of_view))
    return tuple(limits)


def _views(features: Features) -> dict[str, FeatureView]:
    """The view of each feature that is read through one."""
    parts = [features] if isinstance(features, (str, FeatureView)) else features
    return {name: part for part in parts if isinstance(part, FeatureView) for name in part.features}
