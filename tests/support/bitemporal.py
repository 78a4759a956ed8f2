"""What the tests of the feature store share: times, and the answer by brute force."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import NamedTuple

UTC = timezone.utc
START = datetime(2024, 1, 15, tzinfo=UTC)


def at(hours: float) -> datetime:
    """A moment some hours after the start of 2024-01-15 in UTC."""
    return START + timedelta(hours=hours)


class Point(NamedTuple):
    entity: str
    feature: str
    version: int
    event: datetime
    ingest: datetime
    value: float


def winner(points, entity, feature, as_of, max_age=None, version=None):
    """The point that was known: the specification of the feature store, in ten lines."""
    visible = [
        p
        for p in points
        if (p.entity, p.feature) == (entity, feature)
        and p.event <= as_of
        and p.ingest <= as_of
        and version in (None, p.version)
    ]
    best = max(visible, key=lambda p: (p.version, p.event, p.ingest), default=None)
    return None if best and max_age is not None and best.event < as_of - max_age else best
