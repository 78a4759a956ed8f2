"""A desk that decides before the close, on features that are dated at the close before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta

import numpy as np
import pytest
from support.databases import cloned, ensure_template
from support.evenings import FAULT, FEATURES, LAST, REPAIR, Evening, History, Played

from drift import DriftMonitor, daily
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.schema import prepare

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
HOUR = timedelta(hours=1)
Play = Callable[[Callable[[Evening], None]], tuple[DriftMonitor, Played]]


class Desk(History):
    """The half day after Thanksgiving is one of the evenings."""

    def feature_time(self, number: int) -> datetime:
        return self.close(number - 1)

    def signal_time(self, number: int) -> datetime:
        return self.close(number) - HOUR


DESK = Desk(first=date(2023, 7, 17))


@pytest.fixture(scope="module")
def past(server: DatabaseURI, template: str) -> str:
    """A database with the healthy sessions of the desk."""

    def fill(uri: DatabaseURI) -> None:
        prepare(uri.url)
        DESK.fill(uri)

    return ensure_template(server, f"{template}_yesterdays_closes", fill)


@pytest.fixture
def played(server: DatabaseURI, past: str) -> Iterator[Play]:
    with cloned(server, past) as uri:
        monitor = DESK.monitor(uri)
        yield lambda change: (monitor, DESK.play(monitor, change))


def feature_alerts(evening: dict[str, str]) -> list[str]:
    return [rule for rule in evening if rule.startswith(("feature", "no features"))]


def as_it_should_be(evening: Evening) -> None: ...


def a_session_behind(evening: Evening) -> None:
    """The values of the close before, with the date of this one."""
    for name in FEATURES:
        evening.features[name] = DESK.features[name][evening.number - 1].copy()


def without_features(evening: Evening) -> None:
    evening.features = {}


def known_too_late(evening: Evening) -> None:
    """The values reach the store after the decision."""
    evening.feature_time = DESK.close(evening.number)


def without_signals_once(evening: Evening) -> None:
    if evening.number == FAULT + 1:
        evening.signals = None


def for_half_of_the_names(evening: Evening) -> None:
    is_absent = np.arange(len(evening.names)) < 20
    evening.features = {n: np.where(is_absent, np.nan, v) for n, v in evening.features.items()}


@pytest.mark.slow
def test_healthy_evenings_have_psi_and_fresh_features_and_no_alert(played: Play) -> None:
    monitor, shown = played(as_it_should_be)
    for number in range(FAULT, LAST + 1):
        assert feature_alerts(shown.alerts[number]) == []
        [metrics] = monitor.metrics(DESK.days[number], DESK.days[number])
        assert metrics.value("n_features") == len(FEATURES)
        assert metrics.value("psi", "rsi_14") is not None
    fresh = daily._freshness(monitor, DESK.days[LAST], DESK.close(LAST) + HOUR)
    assert fresh
    assert not [feature for feature in fresh if feature.is_stale]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (a_session_behind, "feature late"),
        (without_features, "feature stopped"),
        (for_half_of_the_names, "feature missing"),
    ],
)
def test_faults_are_seen_on_their_first_session(
    played: Play, change: Callable[[Evening], None], rule: str
) -> None:
    _, shown = played(change)
    assert all(rule in shown.alerts[number] for number in range(FAULT, REPAIR))


def test_values_that_the_decision_could_not_see_do_not_count(played: Play) -> None:
    _, shown = played(known_too_late)
    assert "feature stopped" in shown.alerts[FAULT]


@pytest.mark.slow
def test_a_session_without_signals_makes_no_feature_late(played: Play) -> None:
    _, shown = played(without_signals_once)
    assert all(feature_alerts(shown.alerts[number]) == [] for number in range(FAULT, LAST + 1))
