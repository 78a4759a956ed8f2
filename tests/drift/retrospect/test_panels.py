"""Frames of any shape become panels, or a reason why not."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.recorders import NAMES, SESSIONS, model

from drift.retrospect.cells import Cells, Unusable
from drift.retrospect.judging import Judged, Terms, judge
from drift.retrospect.panels import Panel, join
from drift.retrospect.tables import Names, cells_of, forward_returns, read_table
from mlflow_timescale.common.frames import InvalidFrame

SCORES, LABELS = model(1)


def cells(frame: Any, role: str, names: Names | None = None) -> Cells:
    file = f"{role}.pkl"
    table = read_table(pickle.dumps(frame, 4), file, names or Names())
    return cells_of(table, role, names or Names(), file)[0]


def panel_of(scores: Any = SCORES, labels: Any = LABELS) -> Panel:
    return join(cells(scores, "score"), cells(labels, "label"))


EXPECTED = panel_of()


def test_a_panel_has_the_scores_and_labels_of_each_session_by_name() -> None:
    assert EXPECTED.sessions == tuple(day.date() for day in SESSIONS)
    np.testing.assert_array_equal(EXPECTED.scores, SCORES["score"])
    np.testing.assert_array_equal(EXPECTED.labels, LABELS["LABEL0"])
    assert EXPECTED.rows(1) == slice(len(NAMES), 2 * len(NAMES))
    assert EXPECTED.notes == ()


def without_names(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_axis(frame.index.set_names([None, None]))


SAME: dict[str, Any] = {
    "names before times": SCORES.swaplevel(),
    "in no order": SCORES.sample(frac=1.0, random_state=1),
    "levels without names": without_names(SCORES),
    "names before times, without names": without_names(SCORES.swaplevel()),
    "a series": SCORES["score"],
    "a series without a name": SCORES["score"].rename(None),
    "columns": SCORES.reset_index(),
    "times with seconds": SCORES.set_axis(
        SCORES.index.set_levels(SESSIONS + pd.Timedelta("15h"), level=0)
    ),
    "times of a zone": SCORES.set_axis(
        SCORES.index.set_levels(SESSIONS.tz_localize("Asia/Shanghai"), level=0)
    ),
    "dates": SCORES.reset_index().assign(datetime=lambda f: f["datetime"].dt.date),
    "texts": SCORES.reset_index().assign(datetime=lambda f: f["datetime"].dt.strftime("%Y-%m-%d")),
    "numbers": SCORES.reset_index().assign(
        datetime=lambda f: f["datetime"].dt.strftime("%Y%m%d").astype(int)
    ),
    "categories": SCORES.reset_index().astype({"instrument": "category"}),
    "other names": SCORES.reset_index().set_axis(["trade_date", "Ticker", "y_pred"], axis=1),
}


@pytest.mark.parametrize("shape", SAME)
def test_other_shapes_of_the_same_scores_are_the_same_panel(shape: str) -> None:
    panel = panel_of(SAME[shape])
    assert panel.sessions == EXPECTED.sessions
    np.testing.assert_array_equal(panel.scores, EXPECTED.scores)
    np.testing.assert_array_equal(panel.labels, EXPECTED.labels)


def test_rows_that_are_there_twice_count_once_and_different_ones_are_a_reason() -> None:
    panel = panel_of(pd.concat([SCORES, SCORES.iloc[:3]]))
    np.testing.assert_array_equal(panel.scores, EXPECTED.scores)
    assert "3 rows are there twice" in panel.notes[0]
    with pytest.raises(Unusable, match="two values for 'SH600000' in 2023-01-02"):
        panel_of(pd.concat([SCORES, SCORES.iloc[:1] + 1]))


def test_the_last_of_several_times_of_a_day_counts() -> None:
    early = SCORES.set_axis(SCORES.index.set_levels(SESSIONS + pd.Timedelta("10h"), level=0)) - 5
    late = SCORES.set_axis(SCORES.index.set_levels(SESSIONS + pd.Timedelta("14h"), level=0))
    panel = panel_of(pd.concat([early, late]))
    np.testing.assert_array_equal(panel.scores, EXPECTED.scores)
    assert "the last one of each name counts" in panel.notes[0]


def test_missing_and_infinite_scores_are_noted_and_missing_labels_are_the_newest_sessions() -> None:
    scores = SCORES.copy()
    scores.iloc[5] = np.nan
    scores.iloc[6] = np.inf
    panel = panel_of(scores, LABELS.iloc[: -2 * len(NAMES)])
    assert panel.notes == ("2 of 12,000 scores are missing",)
    assert np.isnan(panel.labels[panel.rows(len(SESSIONS) - 1)]).all()


def test_names_that_differ_in_case_only_are_the_same_with_a_note() -> None:
    panel = panel_of(SCORES.rename(index=str.lower, level=1))
    np.testing.assert_array_equal(panel.labels, EXPECTED.labels)
    assert panel.notes == (
        "40 names differ in case only, such as sh600000 of the scores and SH600000 of the labels: "
        "they are taken as the same",
    )
    both = {"SH600001": "sh600000"}  # of the labels, beside SH600000
    panel = panel_of(SCORES, LABELS.rename(index=lambda name: both.get(name, name), level=1))
    assert panel.notes == ("1 of 40 names with scores have no label, such as SH600001",)


def test_sessions_without_a_label_are_noted_unless_they_are_the_newest() -> None:
    labels = LABELS.drop(SESSIONS[[7, 8]], level=0)
    note = "2 of 300 sessions with scores have no label, such as 2023-01-11"
    assert panel_of(SCORES, labels).notes == (note,)
    assert panel_of(SCORES, labels.drop(SESSIONS[-1], level=0)).notes == (note,)


def at_midnights_of_china(frame: pd.DataFrame) -> pd.DataFrame:
    midnights = SESSIONS.tz_localize("Asia/Shanghai").tz_convert("UTC")
    return frame.set_axis(frame.index.set_levels(midnights, level=0))


def test_dates_of_another_zone_are_no_numbers_but_a_reason() -> None:
    with pytest.raises(Unusable, match="of the scores are in UTC, times of the labels have no"):
        panel_of(at_midnights_of_china(SCORES))
    with pytest.raises(Unusable, match="a day earlier or later more of them would have"):
        panel_of(SCORES, at_midnights_of_china(LABELS))
    panel = panel_of(at_midnights_of_china(SCORES), at_midnights_of_china(LABELS))
    np.testing.assert_array_equal(panel.labels, EXPECTED.labels)
    assert "sessions are Sundays and no Fridays" in panel.notes[0]


UNUSABLE: dict[str, tuple[Any, Any, str]] = {
    "all missing": (SCORES * np.nan, LABELS, "no name has both a score and a label"),
    "other names": (
        SCORES.rename(index=lambda name: f"X{name}", level=1),
        LABELS,
        "no session and name in common",
    ),
    "no rows": (SCORES.iloc[:0], LABELS, "has no rows"),
    "times only": (SCORES["score"].groupby(level=0).mean(), LABELS, "looks like the entity"),
    "texts": (SCORES.astype(str).rename(columns={"score": "a"}), LABELS, "looks like the score"),
    "no index": (SCORES.reset_index(drop=True), LABELS, "looks like the time"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_what_cannot_be_used_is_a_reason(what: str) -> None:
    scores, labels, reason = UNUSABLE[what]
    with pytest.raises(Unusable, match=reason):
        panel_of(scores, labels)


def test_the_first_of_several_labels_is_taken_with_a_note() -> None:
    labels = LABELS.assign(LABEL1=1.0)
    table = read_table(pickle.dumps(labels), "label.pkl", Names())
    taken, notes = cells_of(table, "label", Names(), "label.pkl")
    np.testing.assert_array_equal(taken.values, LABELS["LABEL0"])
    assert notes[1] == "label.pkl has several columns of numbers: LABEL0 is taken, not LABEL1"


def test_a_column_that_is_named_is_taken_and_one_that_is_not_there_lists_the_others() -> None:
    labels = LABELS.assign(LABEL1=lambda f: f["LABEL0"] * 2)
    second = cells(labels, "label", Names(label="LABEL1"))
    np.testing.assert_array_equal(second.values, 2 * LABELS["LABEL0"])
    with pytest.raises(Unusable, match="no column 'LABEL9'; it has datetime, instrument, LABEL0"):
        cells(labels, "label", Names(label="LABEL9"))


def test_returns_of_prices_are_those_of_the_following_sessions() -> None:
    prices = pd.DataFrame(
        {
            "date": np.repeat(SESSIONS[:4], 2),
            "symbol": ["A", "B"] * 4,
            "close": [10.0, 5.0, 11.0, np.nan, 22.0, 6.0, 0.0, 9.0],
        }
    )
    over_one = forward_returns(cells(prices, "price"), 1)
    np.testing.assert_allclose(
        over_one.values, [0.1, np.nan, 1.0, np.nan, np.nan, 0.5, np.nan, np.nan]
    )
    over_two = forward_returns(cells(prices, "price"), 2)
    np.testing.assert_allclose(over_two.values[:4], [1.2, 0.2, np.nan, np.nan])
    with pytest.raises(Unusable, match="prices have 4 sessions: returns over 4 need more"):
        forward_returns(cells(prices, "price"), 4)
    with pytest.raises(Unusable, match="no price is above zero"):
        forward_returns(cells(prices.assign(close=-1.0), "price"), 1)


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.json"])
def test_a_table_of_any_format_is_read(name: str, tmp_path: Any) -> None:
    frame = SCORES.join(LABELS).reset_index().iloc[:400]
    frame["instrument"] = frame["instrument"].str.replace("SH", "00")
    path = tmp_path / name
    if name.endswith("parquet"):
        frame.to_parquet(path)
    elif name.endswith("csv"):
        frame.to_csv(path, index=False)
    else:  # as mlflow.log_table writes it
        frame.assign(datetime=frame["datetime"].astype(str)).to_json(path, orient="split")
    table = read_table(path.read_bytes(), name, Names())
    scores, _ = cells_of(table, "score", Names(), name)
    assert scores.labels[0] == "00600000"
    np.testing.assert_allclose(scores.values, frame["score"], atol=1e-9)
    labels, _ = cells_of(table, "label", Names(), name)
    assert join(scores, labels).sessions[0] == date(2023, 1, 2)


def test_scores_are_never_their_own_labels() -> None:
    frame = SCORES.reset_index()
    for table in (frame, frame.assign(volume=1.0), frame.assign(close=LABELS["LABEL0"].to_numpy())):
        columns = read_table(pickle.dumps(table), "t.pkl", Names())
        with pytest.raises(Unusable, match=r"looks like the label; .* \(or give --prices\)"):
            cells_of(columns, "label", Names(), "t.pkl", beside="score")
    twice = Names(score="score", label="score")
    with pytest.raises(Unusable, match="'score' of --label is taken for another role"):
        cells_of(columns, "label", twice, "t.pkl", beside="score")


def test_a_table_with_a_column_for_each_name_is_read_if_that_is_stated() -> None:
    scores, labels = SCORES["score"].unstack(), LABELS["LABEL0"].unstack()
    with pytest.raises(Unusable, match=r"and 21 more \(if it has a column for each name, give --w"):
        cells(scores, "score")
    wide = Names(wide=True)
    panel = join(cells(scores, "score", wide), cells(labels, "label", wide))
    np.testing.assert_array_equal(panel.scores, EXPECTED.scores)
    np.testing.assert_array_equal(panel.labels, EXPECTED.labels)
    np.testing.assert_array_equal(cells(LABELS, "label", wide).values, LABELS["LABEL0"])


BAD_CSV = {
    "": "the file is empty",
    "date;ticker;score\n2024-01-02;A;0,5\n": "separated by ';'; write it with commas",
    "date\tticker\n": "separated by '\\\\t'",
}


@pytest.mark.parametrize("text", BAD_CSV)
def test_a_csv_file_of_another_form_is_a_reason(text: str) -> None:
    with pytest.raises(InvalidFrame, match=BAD_CSV[text]):
        read_table(text.encode(), "t.csv", Names())


def test_a_table_without_rows_and_times_of_another_form_are_reasons() -> None:
    header = read_table(b"date,ticker,score\n", "t.csv", Names())
    with pytest.raises(Unusable, match=r"t\.csv has no rows"):
        cells_of(header, "score", Names(), "t.csv")
    american = read_table(b"date,ticker,score\n01/03/2022,A,1\n", "t.csv", Names())
    with pytest.raises(Unusable, match="'01/03/2022'; write them as 2024-01-15"):
        cells_of(american, "score", Names(), "t.csv")


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"columns": ["a"], "data": [[1, 2]]}'])
def test_json_that_is_no_table_is_one_line(data: bytes) -> None:
    with pytest.raises(InvalidFrame, match=r"cannot read t\.json: it is no table"):
        read_table(data, "t.json", Names())


def judged(seed: int = 1, terms: Terms | None = None, **shape: Any) -> Judged:
    scores, labels = model(seed, **shape)
    return judge("gbm", panel_of(scores, labels), terms or Terms())


def test_a_model_that_lost_its_skill_has_decayed_since_then() -> None:
    found = judged(11)
    assert found.state == "decayed"
    assert found.decay is not None
    low, high = found.decay.interval
    assert low <= SESSIONS[200].date() <= high
    assert found.open_alerts[0].rule.name == "ic drift emergency"
    assert found.newest_ic == pytest.approx(0.0, abs=0.05)


def test_models_that_did_not_decay_have_other_states() -> None:
    assert judged(11, after=None).state == "healthy"
    assert judged(21, skill=0.0, after=None).state == "no skill"
    short = judged(11, sessions=80)
    assert short.state == "too short"
    assert "no reference" in short.notes[-1]
    assert short.reference is None
    assert judged(11, Terms(reference=40), sessions=80).state in ("healthy", "alert")


def test_a_fall_that_is_over_counts_only_if_it_was_certain() -> None:
    (broken, after_break), (sound, after_sound) = model(30), model(31, after=None)
    back = len(NAMES) * 260
    scores = pd.concat([broken.iloc[:back], sound.iloc[back:]])
    found = judge(
        "gbm", panel_of(scores, pd.concat([after_break[:back], after_sound[back:]])), Terms()
    )
    assert found.state == "recovered"
    assert found.fall is not None
    small = judged(0, after=None)
    small = replace(small, decay=found.decay, values={**small.values})
    assert small.values["ic_cusum"][200:].max() < 12
    assert (small.state, small.fall) == ("healthy", None)


def test_one_session_and_too_few_names_are_reasons() -> None:
    with pytest.raises(Unusable, match="one session only, 2023-01-02"):
        judged(1, sessions=1)
    with pytest.raises(Unusable, match="are 40, and 50 are needed; give --min-n 40"):
        judged(1, Terms(min_n=50))
    with pytest.raises(Unusable, match="its scores, or its labels, are the same for all names"):
        judge("gbm", panel_of(SCORES * 0), Terms())


def test_a_few_returns_have_no_sharpe_ratio() -> None:
    assert judged(1, sessions=19).sharpe is None
    assert judged(1, sessions=20).sharpe is not None


def test_labels_that_overlap_are_found_and_the_sharpe_ratio_does_not_count_them_twice() -> None:
    scores, labels = model(5, after=None)
    daily = labels["LABEL0"].unstack()
    week = sum(daily.shift(-lead) for lead in range(5))
    found = judge("gbm", panel_of(scores, week.stack().to_frame("LABEL0")), Terms())
    assert (found.horizon, found.horizon_from[:9]) == (5, "estimated")
    assert "labels cover 5 sessions" in found.notes[-1]
    assert not np.isfinite(found.values["sharpe_60d"]).any()
    plain = judge("gbm", panel_of(scores, labels), Terms())
    assert plain.horizon == 1
    assert found.sharpe is not None
    assert plain.sharpe is not None
    assert found.sharpe < 0.7 * plain.sharpe  # one of five sessions has skill in its label


def test_labels_in_percent_are_noted() -> None:
    panel = panel_of(SCORES, LABELS * 100)
    assert "no returns in fractions" in panel.notes[0]
    yearly = join(cells(SCORES, "score"), cells(LABELS * 250**0.5, "label"), horizon=250)
    assert yearly.notes == ()
