"""Rules over sessions: streaks, gaps, hysteresis, inhibition, and the classic matrix."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from drift.alerts.presets import PRESETS, classic, default, preset
from drift.alerts.rules import Baseline, Evaluation, Rule, evaluate

GOLDEN = Path(__file__).parents[1] / "golden"
DETECTORS = json.loads((GOLDEN / "detectors_expected.json").read_text())
IC = pd.read_csv(GOLDEN / "ic_series.csv").ic.to_numpy()
BELOW = Rule("below", "ic", "<", 0.0, sessions=3)


def states(evaluation: Evaluation) -> list[tuple[int, str, str]]:
    return [(t.session, t.rule.name, t.state) for t in evaluation.transitions()]


def test_an_alert_opens_after_so_many_sessions_in_a_row() -> None:
    result = evaluate([BELOW], {"ic": [-1, -1, 1, -1, -1, -1, -1, 1]})
    assert states(result) == [(5, "below", "open"), (7, "below", "resolved")]
    assert [t.since for t in result.transitions()] == [3, 3]


def test_a_session_without_a_value_neither_extends_nor_breaks_a_streak() -> None:
    result = evaluate([BELOW], {"ic": [-1, None, -1, None, None, -1, None, 1]})
    opened, resolved = result.transitions()
    assert (opened.session, opened.since, resolved.session) == (5, 0, 7)
    assert not evaluate([BELOW], {"ic": [-1, None, None, -1, None]}).transitions()


def test_an_alert_resolves_only_beyond_its_hysteresis() -> None:
    rule = Rule("drift", "psi", ">", 1.0, resolve=0.8, resolve_sessions=2)
    result = evaluate([rule], {"psi": [2, 0.9, 0.9, 0.7, 0.9, 0.7, None, 0.8, 1.1]})
    assert states(result) == [(0, "drift", "open"), (7, "drift", "resolved"), (8, "drift", "open")]


def test_a_louder_rule_inhibits_the_one_it_names_while_both_are_open() -> None:
    warning = Rule("warning", "x", ">", 1.0)
    critical = Rule("critical", "x", ">", 2.0, severity="critical", inhibits=("warning",))
    result = evaluate([warning, critical], {"x": [1.5, 3.0, 1.5, 0.0]})
    assert result.states["warning"].open.tolist() == [True, True, True, False]
    assert result.states["warning"].inhibited.tolist() == [False, True, False, False]
    assert [rule.name for rule in result.open_at(1)] == ["critical"]
    assert [rule.name for rule in result.open_at(2)] == ["warning"]


def test_an_alert_that_opens_under_a_louder_one_is_marked() -> None:
    warning = Rule("warning", "x", ">", 1.0)
    critical = Rule("critical", "x", ">", 2.0, inhibits=("warning",))
    found = evaluate([warning, critical], {"x": [0.0, 3.0, 0.0]}).transitions()
    marked = {(t.rule.name, t.state): t.inhibited for t in found}
    assert marked == {
        ("warning", "open"): True,
        ("critical", "open"): False,
        ("warning", "resolved"): True,
        ("critical", "resolved"): False,
    }


def test_no_data_is_an_alert_of_its_own() -> None:
    rule = Rule("silence", "n", ">=", 2.0, statistic="absent")
    result = evaluate([rule], {"n": [None, 10, 0, None, 10]})
    assert result.states["silence"].statistic.tolist() == [1, 0, 1, 2, 0]
    assert states(result) == [(3, "silence", "open"), (4, "silence", "resolved")]


def test_a_mean_is_of_the_values_that_exist() -> None:
    rule = Rule("mean", "ic", "<", 0.0, statistic="mean", window=2)
    result = evaluate([rule], {"ic": [1, -2, None, -2, 5]})
    assert states(result) == [(1, "mean", "open"), (4, "mean", "resolved")]


def test_many_paths_are_evaluated_as_one_each() -> None:
    generator = np.random.default_rng(0)
    paths = generator.normal(0, 1, size=(20, 80))
    paths[generator.random(paths.shape) < 0.1] = np.nan
    rules = [
        BELOW,
        Rule("cusum", "ic", ">", 3.0, statistic="cusum", resolve=1.0),
        Rule("mean", "ic", "<", -0.5, statistic="mean", window=5, resolve_sessions=2),
    ]
    levels = {"ic": Baseline(0.2, 1.0)}
    together = evaluate(rules, {"ic": paths}, levels)
    for i, path in enumerate(paths):
        alone = evaluate(rules, {"ic": path}, levels)
        for name, found in alone.states.items():
            assert found.open.tolist() == together.states[name].open[i].tolist()


def test_the_cusum_starts_anew_where_the_baseline_changes() -> None:
    rule = Rule("drift", "ic", ">", 3.0, statistic="cusum")
    old, new = Baseline(1.0, 1.0), Baseline(0.0, 1.0)
    levels = [None, *[old] * 4, *[new] * 4]
    result = evaluate([rule], {"ic": [0.0] * 9}, {"ic": levels})
    path = result.states["drift"].statistic
    assert path.tolist() == pytest.approx([np.nan, 0.75, 1.5, 2.25, 3.0, 0, 0, 0, 0], nan_ok=True)


def test_without_a_baseline_a_cusum_rule_stays_quiet() -> None:
    rule = Rule("drift", "ic", ">", 3.0, statistic="cusum")
    assert not evaluate([rule], {"ic": [-9.0] * 50}).transitions()


def test_a_rule_whose_metric_is_not_monitored_is_not_evaluated() -> None:
    assert set(evaluate(default(), {"ic": [0.1]}).states) == {
        "ic drift",
        "ic drift critical",
        "ic drift emergency",
    }


def test_no_sessions_have_no_transitions() -> None:
    rules = [BELOW, *default()]
    levels = {"ic": [], "psi_ratio": []}
    assert evaluate(rules, levels, {"ic": []}).transitions() == []


def test_names_given_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="below given twice"):
        evaluate([BELOW, BELOW], {"ic": [1.0]})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"severity": "loud"}, "rule 'r': severity is 'loud', want one of warning, critical, emer"),
        ({"statistic": "median"}, "statistic is 'median'"),
        ({"comparison": "=="}, "comparison is '=='"),
        ({"sessions": 0}, "rule 'r': sessions must be 1 or more"),
        ({"resolve": 2.0}, "rule 'r': resolve 2.0 lies beyond threshold 1.0"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(wrong: dict[str, object], message: str) -> None:
    fields = {"name": "r", "metric": "x", "comparison": ">", "threshold": 1.0}
    with pytest.raises(ValueError, match=message):
        Rule.from_dict({**fields, **wrong})


def test_a_rule_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValueError, match="rule 'r': unknown treshold"):
        Rule.from_dict({"name": "r", "treshold": 1.0})


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_data(name: str) -> None:
    rules = preset(name)
    restored = [Rule.from_dict(json.loads(json.dumps(rule.to_dict()))) for rule in rules]
    names = [rule.name for rule in rules]
    assert restored == list(rules)
    assert len(set(names)) == len(names)
    assert all(rule.action for rule in rules)
    assert {name for rule in rules for name in rule.inhibits} <= set(names)


def test_an_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="no preset 'clasic'; there are: classic, default"):
        preset("clasic")


def test_the_classic_matrix_has_the_seeds_seven_rows() -> None:
    rows = [(rule.severity, rule.condition) for rule in classic()]
    assert rows == [
        ("warning", "ic < 0.02 on 5 sessions"),
        ("critical", "ic < 0.01"),
        ("emergency", "ic < 0 on 3 sessions"),
        ("warning", "psi_max > 0.1"),
        ("critical", "psi_max > 0.25"),
        ("warning", "sharpe_20d < 0.5 on 10 sessions"),
        ("critical", "sharpe_20d < 0 on 5 sessions"),
    ]


def test_the_classic_rules_are_open_on_the_golden_sessions() -> None:
    expected = DETECTORS["seed_matrix_daily_ic"]
    found = evaluate(classic(), {"ic": IC}).states
    assert np.flatnonzero(found["ic low"].open).tolist() == expected["warning_lt02_5d"]
    assert np.flatnonzero(found["ic negative"].open).tolist() == expected["emergency_lt0_3d"]
    assert found["ic very low"].open[:250].sum() == expected["critical_lt01_days"]


def test_the_default_levels_are_nested() -> None:
    found = evaluate(default(), {"ic": IC}, {"ic": Baseline.fit(IC[:120])}).states
    warning, critical, emergency = (
        found[f"ic drift{x}"].open for x in ("", " critical", " emergency")
    )
    assert emergency.any()
    assert not (emergency & ~critical).any()
    assert not (critical & ~warning).any()
    assert not warning[:120].any()


def test_a_cut_out_that_begins_within_an_alert_can_be_read() -> None:
    rule = Rule("drift", "psi", ">", 1.0, resolve=0.5)
    whole = evaluate([rule], {"psi": [2.0, 0.8, None, 0.7, 0.1]}).states["drift"]
    for start in (1, 2):
        fields = ("statistic", "breached", "open", "inhibited")
        cut = replace(whole, **{name: getattr(whole, name)[start:] for name in fields})
        opened, resolved = Evaluation({"drift": cut}).transitions()
        assert (opened.session, opened.since, resolved.session) == (0, 0, 4 - start)
