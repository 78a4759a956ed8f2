"""A value within its limit is shown with its limit, and with how near it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drift.alerts.headroom import Headroom, headroom, nearest
from drift.alerts.rules import Baseline, Rule, evaluate
from drift.results.limits import limit_of, outlook

CUSUM = Rule("ic drift", "ic", ">", 6.0, statistic="cusum", cap=15.0)
LOUDER = Rule("ic critical", "ic", ">", 8.0, statistic="cusum", severity="critical")
LEVEL = {"ic": Baseline(0.05, 0.08)}
CALM = np.random.default_rng(0).normal(0.05, 0.08, 200)


def rooms(series: Any, *rules: Rule) -> dict[str, Headroom]:
    found = headroom(evaluate(rules, {rule.metric: series for rule in rules}, LEVEL))
    return {room.rule.name: room for room in found}


def falling_to(level: float) -> np.ndarray:
    """A healthy series whose CUSUM ends at `level`."""
    from drift.metrics import cusum

    path = cusum.path(LEVEL["ic"].shortfall(CALM))
    step = (level - path[-1]) / 10 + 0.25
    return np.append(CALM, np.full(10, 0.05 - 0.08 * step))


@pytest.mark.parametrize(
    ("level", "away", "is_open"), [(0.5, None, False), (5.5, 1, False), (6.5, 0, True)]
)
def test_one_bad_session_is_seen_before_it_comes(
    level: float, away: int | None, is_open: bool
) -> None:
    room = rooms(falling_to(level), CUSUM)["ic drift"]
    assert room.value == pytest.approx(level)
    assert (room.sessions_away, room.open) == (away, is_open)


def test_a_healthy_series_is_seldom_near_its_limit() -> None:
    near = [rooms(CALM[:n], CUSUM)["ic drift"].sessions_away is not None for n in range(50, 200)]
    assert np.mean(near) < 0.2


def test_a_streak_counts_the_sessions_that_are_left() -> None:
    halt = Rule("halt", "ic", "<", 0.0, sessions=3)
    series = [0.1] * 40 + [-0.1, -0.1]
    assert rooms(series, halt)["halt"].sessions_away == 1
    assert rooms(series[:-1], halt)["halt"].sessions_away == 2
    assert rooms([*series, -0.1], halt)["halt"].open


def test_the_next_limit_is_shown_not_the_one_that_is_broken() -> None:
    found = rooms(falling_to(6.5), CUSUM, LOUDER)
    assert limit_of("ic_cusum", found.values()).startswith("critical above 8")
    assert limit_of("ic_cusum", rooms(falling_to(0.5), CUSUM, LOUDER).values()) == "warning above 6"
    assert limit_of("sharpe_5d", found.values()) == ""


def test_the_outlook_names_the_nearest_rule_its_value_and_its_limit() -> None:
    found = rooms(falling_to(5.5), CUSUM, LOUDER)
    near = nearest(found.values())
    assert near is not None
    assert near.rule is CUSUM
    expected = "ic drift is one bad session away: CUSUM of ic 5.5, warning above 6."
    assert outlook(found.values()) == expected
    assert outlook(rooms(falling_to(0.5), CUSUM).values()) == ""


@pytest.mark.parametrize("series", [[], [np.nan] * 30, [0.05] * 5])
def test_what_has_no_history_has_no_distance(series: list[float]) -> None:
    room = rooms(series, Rule("low", "ic", "<", 0.0))["low"]
    assert room.sessions_away is None
    assert not room.open
