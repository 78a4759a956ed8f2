"""A decay from a known day, and what moved or changed near it."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from support.strategies import NAMES, Strategy

from drift import DriftMonitor, Serving
from drift.incidents import movers
from drift.incidents.conclusions import decisions, reading
from drift.incidents.nearby import changed_origins
from drift.incidents.onset import Decay, Mover, NearbyChange
from drift.incidents.picture import onset_picture
from drift.metrics.cusum import Onset
from feature_store import FeatureStore
from mlflow_timescale.cli import cli

DAYS = [date(2024, 4, day) for day in range(1, 11)]
SKEW = Mover("rsi", "skew", DAYS[4], DAYS[6], 3, 60.0, 0.0, "shifted")
PSI = Mover("vol", "psi_5d_ratio", DAYS[3], DAYS[5], 3, 1.4, 1.0, "PSI 1.4 times its limit")
WRONG = NearbyChange("wrong version", DAYS[4], "served gbm/2, champion was 1", "gbm/2")
PROMOTION = NearbyChange("promotion", DAYS[4], "gbm@champion became 2", "gbm@champion")
REVISION = NearbyChange("revision", DAYS[4], "60 values of rsi revised")
SCHEMA = NearbyChange("schema", DAYS[4], "3 migrations")
HALT = ("Halt the strategy", "emergency", DAYS[8])
FALL = 75  # the session from which the strategy has no skill


@pytest.fixture
def days(monitor: DriftMonitor) -> list[date]:
    return monitor.calendar.sessions_in_range(date(2024, 1, 2), date(2024, 12, 31))[:100]


def judge(monitor: DriftMonitor, strategy: Strategy, days: list[date]) -> None:
    """Compute all sessions, with the first sixty as the reference."""
    monitor.record_returns(strategy.realized())
    monitor.backfill(days[0], days[59])
    monitor.accept(days[0], days[59], "calm", min_sessions=60)
    monitor.backfill(days[60], days[-1])


def test_a_decay_with_nothing_else_wrong_is_one_of_the_signal(
    monitor: DriftMonitor, days: list[date]
) -> None:
    strategy = Strategy.of(days, [0.3] * FALL + [-0.1] * (100 - FALL))
    monitor.record_predictions(strategy.predictions())
    judge(monitor, strategy, days)
    found = monitor.onset()
    assert found is not None
    low, high = found.interval
    assert low <= days[FALL] <= high <= found.seen
    assert abs(days.index(found.first) - FALL) <= 2
    assert (found.movers, found.changes, found.recovered) == ((), (), None)
    assert found.reading == "decay of the signal itself, not a broken input"
    assert found.unknown["promotion"] == "the predictions name no version"
    assert found.unknown["packages"] == "`Serving` recorded nothing"
    assert found.decisions[0] == "retrain"
    assert onset_picture(found).startswith(b"\x89PNG")
    assert "since 2024-" in found.decisions[1]
    fall, sessions = found  # as a change point
    assert sessions[fall.index] == found.first
    assert found.lines()[-2:] == [
        "reading: decay of the signal itself, not a broken input",
        f"decisions: {'; '.join(found.decisions)}",
    ]
    words = ["incident", "onset", "--uri", monitor.uri.url, "-s", monitor.strategy_id]
    printed = CliRunner().invoke(cli, words)
    assert (printed.exit_code, printed.output.splitlines()) == (3, found.lines())
    older = CliRunner().invoke(cli, ["drift", *words[1:]])
    assert older.output == printed.output
    answer = json.loads(CliRunner().invoke(cli, [*words, "--json"]).output)
    assert answer["onset"] == f"{found.first}"
    assert answer["movers"] == []


def serve_late(monitor: DriftMonitor, days: list[date]) -> Strategy:
    """rsi is the session before's from the fall on; other code and another version serve then."""
    strategy = Strategy.of(days, [0.3] * FALL + [-0.1] * (100 - FALL))
    calendar = monitor.calendar
    events = [calendar.session_close(calendar.previous_session(day)) for day in days]
    name = f"rsi {monitor.strategy_id}"
    frame = {
        "entity_key": NAMES * len(days),
        "event_time": [event + timedelta(minutes=1) for event in events for _ in NAMES],
        name: strategy.signals.ravel().tolist(),
    }
    with FeatureStore(monitor.uri, "feature job") as store:
        store.write_frame(frame, availability_lag=timedelta(hours=1))
    live = Serving(monitor.uri, monitor.strategy_id, model_name="gbm", spool=False)
    with live:
        for number, day in enumerate(days):
            is_late = number >= FALL
            live.record(
                NAMES,
                features={name: strategy.signals[number - is_late].tolist()},
                output=strategy.signals[number].tolist(),
                as_of=calendar.session_close(day) - timedelta(minutes=5),
                model_version="2" if is_late else "1",
            )
    return strategy


def revise(monitor: DriftMonitor, day: date) -> None:
    """A vendor changes the sign of what was known of a session."""
    calendar, name = monitor.calendar, f"rsi {monitor.strategy_id}"
    event = calendar.session_close(calendar.previous_session(day)) + timedelta(minutes=1)
    frame: dict[str, Any] = {"entity_key": NAMES, "event_time": [event] * len(NAMES)}
    frame["known"] = [calendar.session_close(day)] * len(NAMES)
    frame[name] = list(range(len(NAMES)))
    with FeatureStore(monitor.uri, "vendor job") as store:
        store.write_frame(frame, ingest_time="known")


def test_a_broken_input_and_what_changed_are_named_with_their_days(
    monitor: DriftMonitor, days: list[date]
) -> None:
    strategy = serve_late(monitor, days)
    revise(monitor, days[FALL - 1])
    judge(monitor, strategy, days)
    found = monitor.onset()
    assert found is not None
    name = f"rsi {monitor.strategy_id}"
    [mover] = [mover for mover in found.movers if mover.feature == name]
    assert (mover.metric, mover.first) == ("skew", days[FALL])
    assert "value served at t = research value of t-1" in mover.text
    assert found.reading.startswith(f"a broken input: {name}, shifted")
    assert found.decisions[0].startswith(f"repair {name}: mlflow-timescale incident skew -s '")
    changes = {change.kind: change for change in found.changes}
    assert changes["served version"].text == "served gbm/2, before gbm/1"
    assert changes["served version"].session == days[FALL]
    assert changes["revision"].text == (
        f"40 values of {name} revised by vendor job, events {days[FALL - 2]}"
    )


def test_without_a_fall_there_is_no_onset(monitor: DriftMonitor, days: list[date]) -> None:
    monitor.record_predictions(Strategy.of(days).predictions())
    assert monitor.onset() is None
    words = ["incident", "onset", "--uri", monitor.uri.url, "-s", monitor.strategy_id]
    printed = CliRunner().invoke(cli, words)
    assert (printed.exit_code, "has not left" in printed.output) == (0, True)


@pytest.mark.parametrize(
    ("moved", "changes", "begins"),
    [
        ([], [], "decay of the signal itself"),
        ([], [SCHEMA], "decay of the signal itself"),
        ([PSI], [], "the inputs moved, none is broken: vol"),
        ([PSI], [REVISION], "an input was revised: 60 values"),
        ([PSI, SKEW], [REVISION], "a broken input: rsi, shifted, since 2024-04-05"),
        ([SKEW, SKEW], [], "a broken input: rsi, shifted, since 2024-04-05, and 1 more"),
        ([], [PROMOTION, REVISION], "a promotion: gbm@champion became 2, on 2024-04-05; and an"),
        ([SKEW], [PROMOTION, WRONG], "another version served: served gbm/2, champion was 1, from"),
        ([SKEW], [WRONG], f"another version served: {WRONG.text}, from {DAYS[4]}; and a broken"),
    ],
)
def test_the_reading_names_the_strongest_explanation_first(
    moved: list[Mover], changes: list[NearbyChange], begins: str
) -> None:
    assert reading(moved, changes, movers.BROKEN).startswith(begins)


def test_what_began_before_is_no_cause_of_the_fall() -> None:
    told = reading([SKEW], [WRONG], movers.BROKEN, start=DAYS[6])
    assert told == (
        f"nothing began near the onset; what was wrong before: rsi since {DAYS[4]}; "
        f"{WRONG.text}, since {DAYS[4]}"
    )
    assert reading([SKEW, PSI], [], movers.BROKEN, start=DAYS[4]).startswith("a broken input: rsi")


def fallen(until: int | None = None, **fields: Any) -> Decay:
    return Decay("mom entum", Onset(4, 3, 6, 7, until, 0.07, -0.02), tuple(DAYS), **fields)


@pytest.mark.parametrize(
    ("fall", "alerts", "chosen"),
    [
        (fallen(), [], ["retrain"]),
        (fallen(), [HALT], ["retrain", "Halt the strategy (emergency since 2024-04-09)"]),
        (fallen(until=9), [], ["none: the IC is back since 2024-04-10"]),
        (
            fallen(movers=(SKEW,), changes=(WRONG,)),
            [],
            [
                "serve the right version: mlflow-timescale incident version -s 'mom entum' "
                "2024-04-04 2024-04-10",
                "repair rsi: mlflow-timescale incident skew -s 'mom entum' 2024-04-04 2024-04-10",
            ],
        ),
        (
            fallen(changes=(PROMOTION,)),
            [],
            [
                "compare the versions, or go back: mlflow-timescale registry rollback "
                "gbm@champion --reason WHY"
            ],
        ),
    ],
)
def test_every_decision_has_its_command(
    fall: Decay, alerts: list[tuple[str, str, date]], chosen: list[str]
) -> None:
    assert list(decisions(fall, alerts, movers.BROKEN)) == chosen


def test_the_answer_as_text() -> None:
    told = fallen(
        movers=(SKEW,),
        changes=(PROMOTION,),
        reading="a broken input",
        decisions=("repair rsi",),
    )
    assert told.lines() == [
        "IC fell from 0.070 to -0.020, first bad session 2024-04-05 [2024-04-04, 2024-04-07], "
        "seen 2024-04-08",
        "features that moved first:",
        "  rsi  since 2024-04-05  3 sessions  shifted",
        "around it:",
        "  2024-04-05  promotion  gbm@champion became 2",
        "also around it: no wrong version, no gap, no served version, no feature version, no "
        "definition, no revision, no code, no packages, no reference, no schema",
        "reading: a broken input",
        "decisions: repair rsi",
    ]
    unknown = {"code": "nothing recorded", "packages": "nothing recorded"}
    assert fallen(unknown=unknown).lines()[3] == "not known: code, packages (nothing recorded)"
    assert fallen(quiet=("signal", 0.4)).lines()[1] == (
        "features that moved first: none above its limit (signal 0.4)"
    )


@pytest.mark.parametrize(
    ("values", "window", "first"),
    [
        ([0, 0, 1, 1, 0, 0, 0, 0, 0, 0], slice(0, 5), 2),
        ([0, 0, 1, 1, 0, 0, 0, 0, 0, 0], slice(4, 10), None),  # over before the window
        ([1, 0, 1, 0, 0, 0, 0, 0, 1, 1], slice(5, 10), 0),  # at most five sessions between
        ([1, 0, 0, 0, 0, 0, 0, 1, 1, 1], slice(5, 10), 7),  # more: another episode
        ([0] * 10, slice(0, 10), None),
        ([np.nan] * 9 + [2], slice(0, 10), 9),
    ],
)
def test_an_input_has_moved_since_its_episode_began(
    values: list[float], window: slice, first: int | None
) -> None:
    series = {("late", "rsi"): np.array(values, dtype=float)}
    found = movers.moved(series, DAYS, {"late": 0.0}, window)
    assert [mover.first for mover in found] == ([] if first is None else [DAYS[first]])


def test_what_is_broken_counts_before_what_has_only_moved() -> None:
    ones = np.ones(10)
    series = {("psi_ratio", "rsi"): 3 * ones, ("missing_excess", "rsi"): ones, ("ic", ""): ones}
    limits = dict.fromkeys(movers.METRICS, 0.5)
    [mover] = movers.moved(series, DAYS, limits, slice(0, 10))
    assert (mover.metric, mover.text) == (
        "missing_excess",
        "100% more names without a value than usual",
    )


def origin(day: int, **fields: Any) -> dict[str, Any]:
    return {
        "session": DAYS[day],
        "model_name": "gbm",
        "model_version": "1",
        "checksum": "a" * 64,
        "code_version": "4f2a9c1",
        "environment": {"numpy": "1.26"},
        "feature_names": ["rsi", "vol"],
        "feature_versions": [1, 1],
        **fields,
    }


@pytest.mark.parametrize(
    ("after", "kinds"),
    [
        (origin(1), []),
        (origin(1, code_version="99999999"), ["code"]),
        (origin(1, code_version=None), []),
        (origin(1, environment={"numpy": "2.0", "lightgbm": "4"}), ["packages"]),
        (origin(1, checksum="b" * 64), ["served version"]),
        (origin(1, checksum="b" * 64, model_version="2"), []),  # that is no other file of one
        (origin(1, feature_versions=[2, 1]), ["feature version"]),
        (origin(1, feature_versions=[0, 1]), []),  # not known
        (origin(1, model_name="lasso", code_version="99999999"), []),
    ],
)
def test_what_made_a_prediction_is_compared_with_the_one_before(
    after: dict[str, Any], kinds: list[str]
) -> None:
    changes = list(changed_origins([origin(0), after]))
    assert [change.kind for change in changes] == kinds
    assert all(change.session == DAYS[1] for change in changes)
