"""Labelled series are paired by label, not by position."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from drift.alerts.rules import evaluate
from drift.alerts.simulation import simulate
from drift.metrics import calculate_ic, feed_quality, ic, psi

NAMES = [f"N{i:02d}" for i in range(40)]
RNG = np.random.default_rng(0)
SIGNALS = pd.Series(RNG.normal(size=40), index=NAMES)
RETURNS = SIGNALS + pd.Series(RNG.normal(size=40), index=NAMES)
EXPECTED = calculate_ic(SIGNALS.to_numpy(), RETURNS.to_numpy())
SHUFFLED = RETURNS.sample(frac=1, random_state=1)


def test_two_series_are_paired_by_name() -> None:
    assert calculate_ic(SIGNALS, SHUFFLED) == pytest.approx(EXPECTED)
    assert calculate_ic(SHUFFLED, SIGNALS) == pytest.approx(EXPECTED)
    assert ic.rank_ic(SIGNALS, SHUFFLED).value == pytest.approx(EXPECTED)
    assert ic.rank_ic(SIGNALS.to_frame(), SHUFFLED.to_frame()).value == pytest.approx(EXPECTED)


def test_a_name_without_a_return_is_a_pair_less() -> None:
    found = ic.rank_ic(SIGNALS, SHUFFLED.drop(NAMES[:5]))
    assert found.n == 35
    expected = calculate_ic(SIGNALS.to_numpy()[5:], RETURNS.to_numpy()[5:])
    assert found.value == pytest.approx(expected)


def test_returns_of_other_names_are_left_out() -> None:
    more = pd.concat([SHUFFLED, pd.Series([9.0], index=["other"])])
    assert ic.rank_ic(SIGNALS, more).n == 40


def test_a_filtered_frame_keeps_its_row_numbers() -> None:
    frame = pd.DataFrame({"signal": SIGNALS.to_numpy(), "ret": RETURNS.to_numpy()})
    kept = frame.signal[frame.signal > 0]
    expected = calculate_ic(kept.to_numpy(), frame.ret[frame.signal > 0].to_numpy())
    assert calculate_ic(kept, frame.ret) == pytest.approx(expected)
    tail = frame.iloc[10:]
    assert calculate_ic(tail.signal, frame.ret) == calculate_ic(tail.signal, tail.ret)


def test_arrays_and_lists_are_paired_by_position() -> None:
    assert calculate_ic(SIGNALS, RETURNS.to_numpy()) == pytest.approx(EXPECTED)
    assert calculate_ic(SIGNALS.to_list(), RETURNS) == pytest.approx(EXPECTED)


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        (pd.Series(RETURNS.to_numpy(), index=range(40)), "no label in common"),
        (pd.concat([SHUFFLED, SHUFFLED[:1]]), "some occur twice"),
    ],
)
def test_labels_that_cannot_be_paired_are_refused(returns: pd.Series, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calculate_ic(SIGNALS, returns)


def test_row_numbers_of_two_lengths_are_refused_as_arrays_are() -> None:
    with pytest.raises(ValueError, match="want"):
        calculate_ic(pd.Series([1.0, 2, 3]), pd.Series([1.0, 2, 3, 4]))


def test_repeated_labels_in_the_same_order_are_positions() -> None:
    twice = pd.Index(["A"] * 40)
    pair = [pd.Series(values.to_numpy(), index=twice) for values in (SIGNALS, RETURNS)]
    assert calculate_ic(*pair) == pytest.approx(EXPECTED)


def test_frames_are_paired_by_session_and_name() -> None:
    days = pd.date_range("2024-01-01", periods=6)
    signals = pd.DataFrame(RNG.normal(size=(6, 40)), index=days, columns=NAMES)
    returns = signals + RNG.normal(size=(6, 40))
    expected = ic.rank_ic_matrix(signals.to_numpy(), returns.to_numpy()).value
    mixed = returns.sample(frac=1, axis=1, random_state=2).iloc[::-1]
    np.testing.assert_allclose(ic.rank_ic_matrix(signals, mixed).value, expected)
    np.testing.assert_allclose(
        ic.rank_ic_matrix(signals, SHUFFLED).value,
        ic.rank_ic_matrix(signals.to_numpy(), RETURNS.to_numpy()).value,
    )
    faded = ic.decay(signals, {1: mixed})
    assert faded[1].mean == pytest.approx(expected.mean())


def test_groups_are_paired_by_name() -> None:
    groups = pd.Series(["TECH"] * 20 + ["FIN"] * 20, index=NAMES).sample(frac=1, random_state=3)
    found = ic.rank_ic_by_group(SIGNALS, SHUFFLED, groups)
    assert found["FIN"].value == pytest.approx(calculate_ic(SIGNALS[20:], RETURNS[20:]))


@pytest.mark.parametrize(
    "call",
    [
        lambda a, b: evaluate([], {"ic": a, "psi": b}),
        lambda a, b: simulate([], {"ic": a, "psi": b}),
        lambda a, b: psi.fit(a, days=b),
        lambda a, b: feed_quality.prints(a, b),
    ],
)
def test_series_that_are_combined_by_position_need_the_same_labels(call: Any) -> None:
    days = pd.date_range("2024-01-01", periods=80)
    a = pd.Series(np.arange(80.0), index=days)
    call(a, pd.Series(np.arange(80.0), index=days))
    with pytest.raises(ValueError, match="have different labels"):
        call(a, a[::-1])
