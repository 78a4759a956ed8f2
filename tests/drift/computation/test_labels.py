"""Every signal beside the judged one has a label of its own."""

from __future__ import annotations

from datetime import date, datetime, timezone

import numpy as np
import pytest
from support.strategies import NAMES, Strategy

from drift import DriftMonitor
from drift.computation.session_values import of_session
from drift.inputs.signals_and_returns import Judged, Observed, Returns, Signal

Key = tuple[str, int, str, str]
DAY, CLOSE = date(2024, 1, 3), datetime(2024, 1, 3, 21, tzinfo=timezone.utc)
JUDGED: Key = ("signal", 1, "mom", "1")


def observed(*keys: Key) -> Observed:
    entities, groups = np.arange(30), np.array(["tech"] * 30)
    values = np.arange(30.0)
    signals = tuple(Signal(*key, CLOSE, entities, values, groups) for key in keys)
    returns = {horizon: Returns(entities, values) for horizon in (1, 5)}
    return Observed(DAY, signals, returns, Judged("signal", keys[0][2]).choose(signals))


def ic_dimensions(session: Observed) -> list[str]:
    return [value.dimension for value in of_session(session, 20) if value.metric == "ic"]


@pytest.mark.parametrize(
    ("beside", "label"),
    [
        (("signal", 1, "", ""), "no model"),
        (("signal", 1, "mom", "2"), "mom/2"),
        (("signal", 1, "mom", ""), "mom"),
        (("carry", 1, "mom", "1"), "carry"),
        (("carry", 5, "", ""), "carry h5 no model"),
        (("signal", 5, "mom", "1"), "signal h5 mom/1"),
        (("h5", 1, "mom", "1"), "h5 h1 mom/1"),
        (("signal", 1, "h5", ""), "signal h1 h5"),
        (("group tech", 1, "mom", "1"), "group tech h1 mom/1"),
    ],
)
def test_a_signal_beside_the_judged_one_has_its_own_label(beside: Key, label: str) -> None:
    found = ic_dimensions(observed(JUDGED, beside))
    assert sorted(found) == sorted({"", "h5", "group tech", label})


def test_labels_that_would_be_alike_differ() -> None:
    alike: list[Key] = [
        ("a", 1, "mom", "1"),
        ("signal", 1, "a", ""),
        ("signal", 1, "", "a"),
        ("signal", 1, "a/b", ""),
        ("signal", 1, "a", "b"),
        ("no model", 1, "mom", "1"),
        ("signal", 1, "", ""),
    ]
    found = ic_dimensions(observed(JUDGED, *alike))
    assert len(set(found)) == len(found) == len(alike) + 3


def test_a_label_is_the_same_without_the_signals_that_are_labelled_otherwise() -> None:
    alone = observed(JUDGED, ("signal", 1, "", ""))
    beside = observed(JUDGED, ("signal", 1, "mom", "2"), ("signal", 1, "", ""))
    assert "no model" in ic_dimensions(alone)
    assert "no model" in ic_dimensions(beside)


def test_the_judged_model_may_be_named_changed_and_unset(
    monitor: DriftMonitor, strategy: Strategy
) -> None:
    """Predictions without a model, and of two versions, lie in the same sessions."""
    for number in range(2):
        rows = strategy.predictions(slice(number, number + 1))
        for version in ("1", "2"):
            versions = {"model_name": ["mom"] * 40, "model_version": [version] * 40}
            monitor.record_predictions({**rows, **versions})
        monitor.record_predictions({name: column[:30] for name, column in rows.items()})
        monitor.record_predictions({**rows, "horizon": [5] * 40})
    monitor.record_returns(strategy.realized(slice(2)))
    first, second = strategy.days[:2]
    for named in ("mom", "", "mom"):
        monitor.configure(model_name=named)
        [before, after] = monitor.backfill(first, second)
        assert before.n_signals == after.n_signals == len(NAMES)
        assert before.value("ic", "no model") is not None
