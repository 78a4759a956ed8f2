"""Every input, broken in every way: what a person sees each evening until it is repaired.

A healthy past of 90 sessions is made once and cloned. The fault lasts for three evenings; each case
names the alert that must be open on each of them, or what is refused. What cannot be seen is a case
as well, so that docs/drift.md stays true. Inputs that stop are tried every day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from support.databases import cloned, ensure_template
from support.evenings import FAULT, FEATURES, LAST, NAMES, REPAIR, Evening, History, Played

from drift import DriftMonitor
from feature_store import FeatureStore
from mlflow_timescale.db.uri import DatabaseURI

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
HISTORY = History()
HALF = len(NAMES) // 2
Change = Callable[[Evening], object]


@dataclass(frozen=True)
class Case:
    """An input, its fault, and the alert that it opens.

    `after` counts the evenings until the alert is there, `closes` the most from the repair on until
    it is gone; None if it stays. `says` is in its note, `refuses` in the error of the recording.
    """

    input: str
    fault: str
    change: Change
    rule: str = ""
    says: str = ""
    refuses: str = ""
    after: int = 0
    closes: int | None = 0
    repair: Callable[[DriftMonitor], object] | None = None

    @property
    def name(self) -> str:
        return f"{self.input}: {self.fault}"


def has(**fields: Any) -> Change:
    """Deliver other fields; a function is called with the evening."""

    def change(evening: Evening) -> None:
        for name, value in fields.items():
            setattr(evening, name, value(evening) if callable(value) else value)

    return change


def features(change: Callable[[str, np.ndarray, int], Any], *names: str) -> Change:
    """Change the values of some features; None leaves one out."""

    def apply(evening: Evening) -> None:
        for name in names:
            evening.features[name] = change(name, evening.features[name], evening.number)
        kept = {name: values for name, values in evening.features.items() if values is not None}
        evening.features = kept

    return apply


def with_gap(values: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(values)) < HALF, np.nan, values)


def with_infinity(values: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(values)) == 3, np.inf, values)


def signals_after_the_job(evening: Evening) -> None:
    late = HISTORY.evening(evening.number)
    evening.signals = None
    model = {"model_name": ["mom"] * len(NAMES), "model_version": ["1"] * len(NAMES)}
    times = [late.signal_time] * len(NAMES)
    frame = {"entity_key": NAMES, "signal": late.signals, "signal_time": times, **model}
    evening.later.append(lambda monitor: monitor.record_predictions(frame))


def returns_after_the_job(evening: Evening) -> None:
    sessions = [evening.returns_of] * len(NAMES)
    frame = {"entity_key": NAMES, "session": sessions, "value": evening.returns}
    evening.returns = None
    evening.later.append(lambda monitor: monitor.record_returns(frame))


def own_after_the_job(evening: Evening) -> None:
    frame = {"session": [evening.own_of], "value": [evening.own]}
    evening.own = None
    evening.later.append(lambda monitor: monitor.record_strategy_returns(frame))


def features_after_the_job(*names: str) -> Change:
    def change(evening: Evening) -> None:
        late = {name: evening.features.pop(name) for name in names}
        times = {"event_time": [evening.feature_time] * len(NAMES)}

        def write(monitor: DriftMonitor) -> None:
            with FeatureStore(monitor.uri, producer="job") as store:
                frame = {"entity_key": NAMES, **times, **late}
                store.write_frame(frame, availability_lag=timedelta(hours=5))

        evening.later.append(write)

    return change


def half_of_the_names(evening: Evening) -> None:
    assert evening.signals is not None
    evening.names, evening.signals = NAMES[:HALF], evening.signals[:HALF]
    evening.features = {name: values[:HALF] for name, values in evening.features.items()}


def rows_twice(evening: Evening) -> None:
    assert evening.signals is not None
    assert evening.returns is not None
    evening.names, evening.returned_names = NAMES * 2, NAMES * 2
    evening.signals, evening.returns = np.tile(evening.signals, 2), np.tile(evening.returns, 2)
    evening.features = {name: np.tile(values, 2) for name, values in evening.features.items()}


def rows_twice_with_other_signals(evening: Evening) -> None:
    assert evening.signals is not None
    evening.names, evening.signals = NAMES * 2, np.append(evening.signals, -evening.signals)
    evening.features = {name: np.tile(values, 2) for name, values in evening.features.items()}


def rows_twice_with_other_returns(evening: Evening) -> None:
    assert evening.returns is not None
    evening.returned_names = NAMES * 2
    evening.returns = np.append(evening.returns, -evening.returns)


def other_names(evening: Evening) -> None:
    evening.names = [name.replace("N", "US") for name in NAMES]


def clock(hours: float, *names: str) -> Change:
    """Move the clock of the whole delivery of features."""
    return has(feature_time=lambda e: e.feature_time + timedelta(hours=hours))


def signal_clock(hours: float) -> Change:
    return has(signal_time=lambda e: e.signal_time + timedelta(hours=hours))


def _(attribute: str, change: Callable[[Any], Any]) -> Change:
    return has(**{attribute: lambda evening: change(getattr(evening, attribute))})


def confirmed(feature: str) -> Callable[[DriftMonitor], None]:
    def repair(monitor: DriftMonitor) -> None:
        day = HISTORY.days[REPAIR]
        monitor.confirm_repair(day, feature=feature, by="ann", reason="job rerun")

    return repair


BEFORE = FAULT - 1
HOLIDAY = next(
    day
    for day in (HISTORY.days[0] + timedelta(days=n) for n in range(400))
    if day not in HISTORY.position and day.weekday() < 5
)
RETURNS, OWN = HISTORY.record_returns, HISTORY.record_own
ONE = ("rsi_14",)

EVERY_DAY = (
    Case("signals", "stop", has(signals=None), "no signals"),
    Case("returns", "stop", has(returns=None), "no returns", after=1),
    Case(
        "strategy returns", "stop", has(own=None), "strategy returns missing", after=1, repair=OWN
    ),
    Case("one feature", "stops", features(lambda *_: None, *ONE), "feature stopped", "rsi_14"),
    Case("all features", "stop", has(features=lambda _: {}), "feature stopped", "3 of 3 features"),
    Case("versions", "are not named", has(version=None), "no version"),
    Case(
        "sessions",
        "a date on which the exchange is closed",
        has(own_of=HOLIDAY),
        "strategy returns missing",
        refuses="is not a session",
        after=1,
        repair=OWN,
    ),
    Case("daily job", "stops", has(runs=0), "caution", "the daily job has not run since"),
)
OTHERS = (
    Case("signals", "of half of the names", half_of_the_names, "fewer signals"),
    Case("signals", "under other names", other_names, "new names", "40 of 40 names are new"),
    Case("signals", "8 hours late", signal_clock(8), "signal clock", "+8.0 h"),
    Case(
        "returns",
        "of half of the names",
        has(returned_names=NAMES[:HALF], returns=lambda e: e.returns[:HALF]),
        "fewer returns",
        "20 of 40 names",
    ),
    Case("returns", "x100", _("returns", lambda r: r * 100), "returns unit", "usual size"),
    Case(
        "returns",
        "one session late",
        has(returns=lambda e: HISTORY.returns[e.number - 2]),
        "feature late",
        "returns 1 session behind",
        repair=RETURNS,
    ),
    Case("signals", "come after the job", signals_after_the_job, "no signals"),
    Case(
        "signals",
        "one session late",
        has(signals=lambda e: HISTORY.signals[e.number - 1]),
        "feature late",
        "signal 1 session behind",
        closes=2,
    ),
    Case("signals", "8 hours early", signal_clock(-8), "no signals"),
    Case("signals", "x100", _("signals", lambda s: s * 100), "feature unit", "signal is x"),
    Case("signals", "infinite", _("signals", with_infinity), "no signals", refuses="infinite"),
    Case("signals", "empty", _("signals", lambda s: s * np.nan), "no signals"),
    Case("signals", "half of them empty", _("signals", with_gap), "fewer signals"),
    Case(
        "signals",
        "twice, and different",
        rows_twice_with_other_signals,
        "no signals",
        refuses="contradict",
    ),
    Case(
        "signals",
        "frozen",
        has(signals=HISTORY.signals[BEFORE]),
        "feature late",
        "signal 1 session behind",
        repair=confirmed("signal"),
    ),
    Case("signals", "all alike", _("signals", np.zeros_like), "constant signals"),
    Case("returns", "come after the job", returns_after_the_job),
    Case("returns", "infinite", _("returns", with_infinity), "no returns", "", "infinite", 1),
    Case("returns", "empty", _("returns", lambda r: r * np.nan), "no returns", after=1),
    Case("returns", "half of them empty", _("returns", with_gap), "fewer returns"),
    Case(
        "returns",
        "twice, and different",
        rows_twice_with_other_returns,
        "no returns",
        refuses="contradict",
        after=1,
    ),
    Case(
        "returns",
        "frozen",
        has(returns=HISTORY.returns[BEFORE - 1]),
        "feature late",
        "returns 1 session behind",
        repair=RETURNS,
    ),
    Case("returns", "all alike", _("returns", np.zeros_like), "constant returns"),
    Case(
        "returns",
        "under other names",
        has(returned_names=[name.replace("N", "US") for name in NAMES]),
        "no returns",
        "40 returns of",
        after=1,
    ),
    Case("returns", "x2", _("returns", lambda r: r * 2)),
    Case(
        "strategy returns",
        "infinite",
        has(own=np.inf),
        "strategy returns missing",
        refuses="infinite",
        after=1,
        repair=OWN,
    ),
    Case(
        "strategy returns",
        "empty",
        has(own=np.nan),
        "strategy returns missing",
        after=1,
        repair=OWN,
    ),
    Case(
        "strategy returns",
        "in percent",
        has(own=lambda e: 100 * (0.01 + abs(e.own))),
        "strategy returns implausible",
        "too large for one session",
        repair=OWN,
    ),
    Case(
        "strategy returns",
        "one session late",
        has(own=lambda e: float(HISTORY.own[e.number - 1])),
        "feature late",
        "strategy returns 1 session behind",
        repair=OWN,
    ),
    Case(
        "strategy returns",
        "frozen",
        has(own=float(HISTORY.own[BEFORE])),
        "feature late",
        "strategy returns 1 session behind",
        repair=OWN,
    ),
    Case("strategy returns", "come after the job", own_after_the_job),
    Case("strategy returns", "x2", _("own", lambda value: 2 * value)),
    Case("strategy returns", "with the other sign", _("own", lambda value: -value)),
    Case("one feature", "comes after the job", features_after_the_job(*ONE), "feature stopped"),
    Case("all features", "come after the job", features_after_the_job(*FEATURES), "no features"),
    Case(
        "one feature",
        "one session late",
        features(lambda name, _, t: HISTORY.features[name][t - 1], *ONE),
        "feature late",
        "rsi_14 1 session behind",
        closes=2,
    ),
    Case(
        "all features",
        "one session late",
        features(lambda name, _, t: HISTORY.features[name][t - 1], *FEATURES),
        "feature late",
        "ret_1d 1 session behind",
        repair=confirmed(""),
    ),
    Case("all features", "8 hours early", clock(-8), "feature clock", "-7.0 h"),
    Case("all features", "8 hours late", clock(8), "feature clock", "+8.0 h", after=1),
    Case(
        "one feature",
        "x100",
        features(lambda _, values, __: values * 100, *ONE),
        "feature unit",
        "rsi_14 is x",
    ),
    Case(
        "all features",
        "x100",
        features(lambda _, values, __: values * 100, *FEATURES),
        "feature unit",
        "ret_1d is x",
    ),
    Case(
        "one feature",
        "x2",
        features(lambda _, values, __: values * 2, *ONE),
        "feature break",
        "rsi_14",
    ),
    Case(
        "one feature",
        "with the other sign",
        features(lambda _, values, __: -values, *ONE),
        "feature break",
        "rsi_14",
    ),
    Case(
        "one feature",
        "infinite",
        features(lambda _, values, __: with_infinity(values), *ONE),
        "feature stopped",
        "3 of 3 features",
        "infinite",
    ),
    Case(
        "one feature",
        "empty",
        features(lambda _, values, __: values * np.nan, *ONE),
        "feature stopped",
        "rsi_14",
    ),
    Case(
        "one feature",
        "half of it empty",
        features(lambda _, values, __: with_gap(values), *ONE),
        "feature missing",
        "rsi_14 0.50",
    ),
    Case(
        "one feature",
        "frozen",
        features(lambda name, *_: HISTORY.features[name][BEFORE], *ONE),
        "feature late",
        "rsi_14 1 session behind",
        repair=confirmed("rsi_14"),
    ),
    Case(
        "all features",
        "frozen",
        features(lambda name, *_: HISTORY.features[name][BEFORE], *FEATURES),
        "feature late",
        repair=confirmed(""),
    ),
    Case(
        "one feature",
        "all alike",
        features(lambda _, values, __: np.zeros_like(values), *ONE),
        "feature constant",
        "rsi_14",
    ),
    Case("everything", "twice", rows_twice),
    Case("everything", "recorded and judged twice", has(runs=2)),
    Case("versions", "written as v1", has(version="v1")),
    Case("versions", "of a misspelt model", has(model="mmo"), "no signals", "of signal/mmo/1"),
    Case("daily job", "runs three times", has(runs=3)),
)


@pytest.fixture(scope="module", params=["raw", "ranked"])
def past(server: DatabaseURI, template: str, request: pytest.FixtureRequest) -> str:
    """The name of a database with a healthy past; raw features every day, ranked ones if slow."""

    def fill(uri: DatabaseURI) -> None:
        from mlflow_timescale.schema import prepare

        prepare(uri.url)
        HISTORY.fill(uri, request.param)

    return ensure_template(server, f"{template}_{request.param}", fill)


@pytest.fixture
def monitor(server: DatabaseURI, past: str) -> Iterator[DriftMonitor]:
    with cloned(server, past) as uri:
        yield HISTORY.monitor(uri)


def check(case: Case, played: Played) -> None:
    """Each evening of the fault shows the alert, and none after the repair does."""
    assert bool(played.refused) == bool(case.refuses), played.refused
    assert all(case.refuses in text for text in played.refused)
    for evening in range(FAULT, LAST + 1):
        if REPAIR <= evening < REPAIR + (case.closes or 0):
            continue  # a statistic decides whether it is gone already
        due = FAULT + case.after <= evening < REPAIR
        if case.rule == "caution":
            assert (case.says in played.cautions[evening]) == due, evening
        elif case.rule:
            assert (case.rule in played.alerts[evening]) == due, (evening, played.alerts)
            assert not due or case.says in played.alerts[evening][case.rule]
        else:
            assert not played.alerts[evening], evening


def names(cases: tuple[Case, ...]) -> list[str]:
    return [case.name for case in cases]


@pytest.mark.slow
@pytest.mark.parametrize("past", ["raw"], indirect=True)
@pytest.mark.parametrize("case", EVERY_DAY, ids=names(EVERY_DAY))
def test_an_input_that_stops_is_told_until_it_is_back(monitor: DriftMonitor, case: Case) -> None:
    check(case, HISTORY.play(monitor, case.change, case.repair))


@pytest.mark.slow
@pytest.mark.parametrize("past", ["raw"], indirect=True)
@pytest.mark.parametrize("case", OTHERS, ids=names(OTHERS))
def test_an_input_that_breaks_is_told_until_it_is_repaired(
    monitor: DriftMonitor, case: Case
) -> None:
    check(case, HISTORY.play(monitor, case.change, case.repair))


# A change of size or of sign changes no rank.
RAW_ONLY = ("one feature: x2", "one feature: with the other sign")
RANKED = tuple(case for case in (*EVERY_DAY, *OTHERS) if case.name not in RAW_ONLY)


@pytest.mark.slow
@pytest.mark.parametrize("past", ["ranked"], indirect=True)
@pytest.mark.parametrize("case", RANKED, ids=names(RANKED))
def test_it_is_the_same_with_ranked_features(monitor: DriftMonitor, case: Case) -> None:
    check(case, HISTORY.play(monitor, case.change, case.repair))
