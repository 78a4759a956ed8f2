"""A monitor on a database of the test's own, and a strategy to record."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest
from support.strategies import Strategy

from drift import DriftMonitor
from mlflow_timescale.db.uri import DatabaseURI


@pytest.fixture
def monitor(database: DatabaseURI) -> DriftMonitor:
    """A monitor that logs nothing in MLflow."""
    monitor = DriftMonitor(database, "momentum", tracking_uri=False, notify=())
    monitor.configure()
    return monitor


@pytest.fixture
def days(monitor: DriftMonitor) -> list[date]:
    """A hundred sessions."""
    return monitor.calendar.sessions_in_range(date(2024, 1, 2), date(2024, 12, 31))[:100]


@pytest.fixture
def strategy(days: list[date]) -> Strategy:
    """Skill in every session."""
    return Strategy.of(days)


@pytest.fixture
def make() -> Callable[..., Strategy]:
    """Another strategy: `make(days, skill)`."""
    return Strategy.of
