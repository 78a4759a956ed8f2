"""What the story is about: names, dates and the models that compete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from ..demo import FEATURES

__all__ = ["FEATURES", "LABEL", "Settings"]

LABEL = "label"


def _candidates() -> dict[str, dict[str, Any]]:
    return {
        "ridge": {"alpha": 1.0},
        "interactions": {"alpha": 100.0, "degree": 2},
    }


@dataclass(frozen=True)
class Settings:
    """Names and dates. All dates are trading sessions of the New York Stock Exchange.

    Attributes
    ----------
    name
        Of the strategy, the registered model and the experiment.
    first_session
        The first session whose features are stored.
    train_until, test_until
        The last sessions of training and of test data.
    accepted
        The sessions that the monitor accepts as the reference, traded on paper.
    live, end
        The first and the last live session.
    fault, repair
        `late_feature` is served one session late from the first date to the day before the second.
    evenings
        The sessions that the daily job judges one by one, from the first to the last; the others
        are judged together.
    retrain_until
        The last session of training data of the new versions; later ones compare them.
    """

    name: str = "sp500_momentum"
    strategy_type: str = "sp500 momentum"
    first_session: date = date(2003, 1, 2)
    train_until: date = date(2015, 12, 31)
    test_until: date = date(2018, 12, 31)
    accepted: tuple[date, date] = (date(2019, 1, 2), date(2019, 12, 31))
    live: date = date(2020, 1, 2)
    end: date = date(2022, 12, 23)
    late_feature: str = "rsi_14"
    fault: date = date(2020, 1, 21)
    repair: date = date(2020, 1, 24)
    evenings: tuple[date, date] = (date(2020, 1, 15), date(2020, 3, 6))
    retrain_until: date = date(2018, 12, 31)
    candidates: Mapping[str, Mapping[str, Any]] = field(default_factory=_candidates)
