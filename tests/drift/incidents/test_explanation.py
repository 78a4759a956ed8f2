"""An incident explained: planted faults and a healthy strategy on one database, and the page."""

from __future__ import annotations

import html.parser
import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest
from click.testing import CliRunner, Result

from drift import DriftMonitor, Serving
from drift.incidents import collecting
from drift.incidents.causes import Cause
from drift.incidents.decisions import Decision
from drift.incidents.evidence import Effect, Unanswered
from drift.incidents.explanation import Explanation
from drift.incidents.onset import Decay
from drift.metrics.cusum import Onset
from feature_store import FeatureStore
from mlflow_timescale.cli import cli
from mlflow_timescale.db import Error
from mlflow_timescale.db.uri import DatabaseURI

NAMES = [f"N{number:02d}" for number in range(24)]
SESSIONS, LATE_FROM = 30, 20
HOUR = timedelta(hours=1)


def fill(uri: DatabaseURI, strategy: str, *, late: bool) -> list[date]:
    """Thirty sessions; with `late`, one feature is served a session late from the 21st on."""
    monitor = DriftMonitor(uri, strategy, tracking_uri=False, notify=())
    features = (f"rsi {strategy}", f"ret {strategy}")
    calendar = monitor.configure(features=()).calendar
    days = calendar.sessions_in_range(date(2024, 3, 1), date(2024, 6, 1))[:SESSIONS]
    values = np.random.default_rng(7).normal(size=(len(features), SESSIONS, len(NAMES)))
    events = [calendar.session_close(day) - 2 * HOUR for day in days]
    frame = {
        "entity_key": NAMES * SESSIONS,
        "event_time": [event for event in events for _ in NAMES],
        **{name: v.ravel() for name, v in zip(features, values, strict=True)},
    }
    with FeatureStore(uri, producer="job") as store:
        store.write_frame(frame, availability_lag=timedelta(minutes=5))
    served = values.copy()
    if late:
        served[0, LATE_FROM:] = values[0, LATE_FROM - 1 : -1]
    with Serving(uri, strategy, model_name="gbm", model_version="1", spool=False) as live:
        for number, event in enumerate(events):
            live.record(
                NAMES,
                features=dict(zip(features, served[:, number].tolist(), strict=True)),
                output=served[:, number].sum(axis=0).tolist(),
                as_of=event + HOUR,
                event_times=event,
            )
    returns = 0.01 * values.sum(axis=0)
    rows = {"entity_key": NAMES * SESSIONS, "session": np.repeat(days, len(NAMES)).tolist()}
    monitor.record_returns({**rows, "value": returns.ravel().tolist()})
    monitor.record_strategy_returns({"session": days, "value": returns.mean(axis=1).tolist()})
    monitor.backfill(days[0], days[-1])
    return days


@pytest.fixture(scope="module")
def filled(
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
) -> Iterator[tuple[DatabaseURI, list[date]]]:
    with new_database() as uri:
        fill(uri, "healthy", late=False)
        yield uri, fill(uri, "late", late=True)


@pytest.fixture
def monitor(filled: tuple[DatabaseURI, list[date]]) -> Callable[[str], DriftMonitor]:
    return lambda strategy: DriftMonitor(filled[0], strategy, notify=())


def run(uri: DatabaseURI, *words: str) -> Result:
    words = ("incident", "explain", "--uri", uri.url, *words)
    return CliRunner().invoke(cli, words, catch_exceptions=False)


def test_a_late_input_is_named_with_its_first_session_and_what_to_do(
    monitor: Callable[[str], DriftMonitor], filled: tuple[DatabaseURI, list[date]]
) -> None:
    days = filled[1]
    explained = monitor("late").explain(log=False)
    assert explained.status == "critical"
    assert explained.headline.startswith(
        f"rsi late was served 1 session late, since {days[LATE_FROM]} (10 sessions, still so)."
    )
    [skew] = [cause for cause in explained.faults if cause.kind == "skew"]
    assert (skew.first, skew.last, skew.details["sessions"]) == (days[LATE_FROM], None, 1)
    assert "240 of 240 cells" in skew.evidence[0]
    assert explained.main == skew
    effects = {effect.name.partition(" (")[0]: effect for effect in explained.effects}
    assert effects["mean IC"].before == pytest.approx(1.0)
    assert 0.2 < (effects["mean IC"].during or 0) < 0.9
    assert effects["return of the strategy"].limit == "10 sessions each"
    commands = [decision.command for decision in explained.decisions]
    assert commands[0] == "mlflow-timescale incident skew -s late"
    assert re.fullmatch(r"mlflow-timescale drift ack -s late \d+ --note .*", commands[1])
    text = "\n".join(explained.lines())
    questions = re.findall(r"^[A-Z].*\?$|^Decisions$|^Checked.*$", text, re.MULTILINE)
    assert questions[:3] == [
        "What is wrong, and how bad is it?",
        "Since when?",
        "Were the live inputs those of research?",
    ]
    assert questions.index("Decisions") > 2
    assert "Every cell of 1 other feature agrees." in text


def test_the_sessions_before_the_fault_are_healthy(
    monitor: Callable[[str], DriftMonitor], filled: tuple[DatabaseURI, list[date]]
) -> None:
    days = filled[1]
    before = monitor("late").explain(days[0], days[LATE_FROM - 1], log=False)
    assert before.is_healthy
    assert (before.start, before.end) == (days[0], days[LATE_FROM - 1])
    only_the_end = monitor("late").explain(end=days[LATE_FROM], log=False)
    assert [cause.period for cause in only_the_end.faults if cause.kind == "skew"] == [
        f"since {days[LATE_FROM]}"
    ]


def test_a_healthy_day_is_a_few_lines(monitor: Callable[[str], DriftMonitor]) -> None:
    explained = monitor("healthy").explain(log=False)
    assert explained.status == "ok"
    # The model is a label of the caller's: neither its version nor a replay can be compared.
    assert explained.headline == "Nothing wrong was found, but not every question has an answer."
    assert explained.decisions == explained.causes == ()
    assert len(explained.lines()) < 12
    assert any("1,440 served cells (2 features, 30 sessions" in line for line in explained.checked)
    page = explained.html()
    assert "<img" not in page
    assert "<table" not in page
    assert "1,440 served cells" in page


def test_dates_without_sessions_are_an_error_and_a_weekend_is_none(
    monitor: Callable[[str], DriftMonitor], filled: tuple[DatabaseURI, list[date]]
) -> None:
    days, late = filled[1], monitor("late")
    saturday, sunday = date(2024, 3, 9), date(2024, 3, 31)
    explained = late.explain(saturday, sunday, log=False)
    assert (explained.start, explained.end) == (date(2024, 3, 11), date(2024, 3, 28))
    assert not [part for part in explained.unanswered if part.question.startswith("Were")]
    assert late.explain(end=date(2024, 12, 31), log=False).end == days[-1]
    for period in ((None, date(2010, 1, 4)), (date(2025, 1, 6), date(2025, 1, 10))):
        with pytest.raises(Error, match=f"are from {days[0]} to {days[-1]}"):
            late.explain(*period, log=False)
    empty = DriftMonitor(filled[0], "empty", tracking_uri=False)
    empty.configure()
    with pytest.raises(Error, match="no session of 'empty' was served or computed"):
        empty.explain()


def test_a_question_that_fails_is_a_line_and_stops_no_other(
    monitor: Callable[[str], DriftMonitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = monitor("late")

    def fail(*_: object) -> None:
        raise RuntimeError("the registry\ncannot be read")

    monkeypatch.setattr(watched, "served_versions", fail)
    explained = watched.explain(log=False)
    assert explained.status == "critical"
    reasons = {part.question: part.reason for part in explained.unanswered}
    assert reasons["Which version ran, and which should have?"] == (
        "RuntimeError: the registry cannot be read"
    )
    assert "RuntimeError: the registry cannot be read" in explained.html()


def test_the_command_writes_a_page_prints_the_text_and_logs_to_the_strategys_run(
    filled: tuple[DatabaseURI, list[date]], tmp_path: Path
) -> None:
    uri, days = filled
    file = tmp_path / "incident.html"
    result = run(uri, "-s", "late", "-o", str(file))
    assert result.exit_code == 3
    assert f"late {days[-1]}  critical: rsi late was served 1 session late" in result.output
    assert "$ mlflow-timescale incident skew -s late" in result.output
    page = file.read_text(encoding="utf-8")
    client = mlflow.MlflowClient(uri.url)
    [experiment] = client.search_experiments(filter_string="name = 'drift/late'")
    [logged] = client.search_runs([experiment.experiment_id], "tags.`drift.role` = 'series'")
    [artifact] = client.list_artifacts(logged.info.run_id, "incident")
    assert artifact.path == f"incident/{days[-1]}.html"
    assert page.startswith("<!doctype html>")
    healthy = run(uri, "-s", "healthy", str(days[-1]), "--no-mlflow", "--json")
    assert healthy.exit_code == 0
    assert json.loads(healthy.output)["is_healthy"] is True
    late = json.loads(run(uri, "-s", "late", "--no-mlflow", "--json").output)
    assert late["causes"][0]["first"] == str(days[LATE_FROM])
    assert late["skew"]["features"][0]["findings"][0]["kind"] == "shifted"
    assert client.search_experiments(filter_string="name = 'drift/healthy'") == []


def test_without_mlflow_the_page_is_made_all_the_same(
    filled: tuple[DatabaseURI, list[date]], caplog: pytest.LogCaptureFixture
) -> None:
    away = DriftMonitor(filled[0], "late", notify=(), tracking_uri="http://127.0.0.1:9")
    assert away.explain().status == "critical"
    assert "the page of the incident of late" in caplog.text


# The page alone.

DAYS = [date(2024, 3, 1) + timedelta(days=number) for number in range(60)]
NOW = datetime(2024, 5, 1, tzinfo=timezone.utc)


def an_explanation(name: str = "rsi_14", **changed: object) -> Explanation:
    late = Cause("skew", name, f"{name} was served 1 session late", "critical", DAYS[40], None, 20)
    over = Cause(
        "version", "gbm/2", "gbm/2 served while champion was 1", "critical", DAYS[5], DAYS[9], 5
    )
    explained = Explanation(
        "momentum",
        DAYS[0],
        DAYS[-1],
        "as asked",
        NOW,
        60,
        (late, over),
        (Decision(f"Have {name} repaired.", late.line, "mlflow-timescale incident skew"),),
        effects=(Effect("return", 0.012, -0.034, limit="20 sessions each", is_share=True),),
        checked=("Alerts: none is open.",),
        unanswered=(Unanswered("Does a replay reproduce it?", f"no model of {name}"),),
        days=DAYS,
        ic=np.random.default_rng(1).normal(0.05, 0.1, 60).tolist(),
        level=0.05,
    )
    return replace(explained, **changed)  # type: ignore[arg-type]


class Tags(html.parser.HTMLParser):
    """Every tag with its attributes, and that each is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", ["<b>x</b>", '"><script>alert(1)</script>', "$x_{1}$\x1b\u202e"])
def test_the_page_is_one_well_formed_file_in_which_names_are_escaped(name: str) -> None:
    page = an_explanation(name).html()
    tags = Tags(page)
    assert tags.open == []
    assert not {"script", "link", "iframe", "b>x"} & {tag for tag, _ in tags.tags}
    [picture] = [attrs["src"] or "" for tag, attrs in tags.tags if tag == "img"]
    assert picture.startswith("data:image/png;base64,")
    assert [attrs["href"] for tag, attrs in tags.tags if tag == "a"] == ["#decisions"]
    text = re.sub(r"base64,[^\"]*", "", page)
    assert "http" not in text
    assert not {"\x1b", "\u202e"} & {*text}


def test_the_first_sentences_are_the_fault_and_what_to_do_first() -> None:
    page = an_explanation().html()
    lead = page.index('<span class="status critical">critical</span> rsi_14 was served 1 session')
    assert lead < page.index("Do first: Have rsi_14 repaired.") < page.index("<h2")
    assert page.index("Does a replay reproduce it? no model of") > page.index('id="decisions"')


def test_a_fault_that_is_over_is_no_present_one() -> None:
    over = an_explanation().causes[1]
    explained = an_explanation(causes=(over,))
    assert explained.status == "ok"
    assert explained.headline == (
        f"Nothing is wrong now. gbm/2 served while champion was 1, from {DAYS[5]} to {DAYS[9]} "
        f"(5 sessions)."
    )
    assert "Do first" not in explained.html()


def test_sessions_without_an_ic_have_no_picture() -> None:
    assert "<img" not in an_explanation(ic=[float("nan")] * 60).html()


FALL = Decay("momentum", Onset(30, 25, 38, 40, 50, 0.07, -0.01), tuple(DAYS))


@pytest.mark.parametrize(
    ("start", "end", "is_known", "recovered"),
    [
        (None, DAYS[-1], True, DAYS[50]),
        (None, DAYS[45], True, None),
        (None, DAYS[39], False, None),
        (DAYS[51], DAYS[-1], False, None),
    ],
)
def test_a_fall_of_the_ic_is_that_which_was_known_at_the_end(
    start: date | None, end: date, is_known: bool, recovered: date | None
) -> None:
    decay = collecting._relevant(FALL, start, end)
    assert (decay is not None) is is_known
    assert decay is None or decay.recovered == recovered


@pytest.mark.parametrize(
    ("signs", "start", "expected"),
    [
        ([], None, "the last 63 sessions"),
        ([date(2024, 1, 5)], None, "from 21 sessions before the first sign of a fault on"),
        ([date(2020, 1, 6)], None, "the last 250 sessions; give START and END for earlier ones"),
        ([], date(2024, 5, 1), "as asked"),
    ],
)
def test_the_range_reaches_back_to_the_first_sign(
    signs: list[date], start: date | None, expected: str, filled: tuple[DatabaseURI, list[date]]
) -> None:
    calendar = DriftMonitor(filled[0], "late", tracking_uri=False).calendar
    watched = SimpleNamespace(calendar=calendar)
    end = date(2024, 5, 31)
    first, text = collecting._window(watched, start, end, signs, None)  # type: ignore[arg-type]
    assert text == expected
    assert first <= min([*signs, end]) or "250" in text
