"""One point-in-time question: which rows and features, as known and written when."""

from __future__ import annotations

from collections.abc import Mapping
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
    limits of a snapshot, which replace all others. `calendars` are those of the registered views by
    feature, for sessions that neither the call nor a view that is read counts. Cells
    outside of `universe` are empty.
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
    calendars: Mapping[str, str] | None = None

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
        return {name: self.limits_of(name) for name in self.selection.names}

    @property
    def has_limits(self) -> bool:
        """Whether values of any age of the features may be left out."""
        of_call = self.max_staleness not in (None, OF_VIEW) or self.max_age is not None
        return of_call or bool(self.recorded or self.views)

    @property
    def counts_sessions(self) -> bool:
        """Whether the call has a number of sessions, and no calendar for it. Raises InvalidTime."""
        if not self.has_limits:
            return False
        given = [self.max_age, None if self.max_staleness == OF_VIEW else self.max_staleness]
        ages = [parse_duration(age, "max_age") for age in given if age is not None]
        return self.calendar is None and any(isinstance(age, SessionCount) for age in ages)

    @cached_property
    def views(self) -> dict[str, FeatureView]:
        """The view of each feature that is read through one."""
        given = self.features or ()
        parts = [given] if isinstance(given, (str, FeatureView)) else given
        return {
            name: part for part in parts if isinstance(part, FeatureView) for name in part.features
        }

    def limits_of(self, feature: str) -> tuple[AgeLimit, ...]:
        """The limits on the age of one feature: of the call, and of the view that is read.

        Raises InvalidTime for sessions that no calendar counts.
        """
        view = self.views.get(feature)
        registered = (self.calendars or {}).get(feature)
        of_view = view.calendar if view is not None and view.calendar else registered
        limits = []
        if self.max_age is not None:
            age = parse_duration(self.max_age, "max_age")
            counted = of_view if isinstance(age, SessionCount) else None
            limits.append(AgeLimit(age, self.calendar or counted))
        if self.max_staleness == OF_VIEW:
            if view is not None and view.max_staleness is not None:
                limits.append(AgeLimit(view.max_staleness, view.calendar))
        elif self.max_staleness is not None:
            limit = parse_duration(self.max_staleness, "max_staleness")
            limits.append(AgeLimit(limit, self.calendar or of_view))
        return tuple(limits)

    def spine(self, frame: Any, *, missing: bool = False) -> Spine:
        """Read a spine: a frame of any kind, or (entity, as_of) pairs.

        Raises InvalidFrame or InvalidTime; for a missing as_of unless `missing` allows it.
        """
        return read_spine(frame, self.selection.names, self.entity, self.as_of, missing=missing)
