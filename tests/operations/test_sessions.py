"""`sessions import`, and what `doctor` and `daily` say of calendars that end."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from drift import DriftMonitor
from feature_store import FeatureStore, FeatureView
from mlflow_timescale import db
from mlflow_timescale.cli import cli
from mlflow_timescale.common.calendar_overrides import read_calendar
from mlflow_timescale.common.calendars import TradingCalendar
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations import calendar_checks
from mlflow_timescale.operations.findings import Finding, Patient


@pytest.fixture
def run(shared_database: DatabaseURI, tmp_path: Path) -> Callable[..., Result]:
    def call(text: str, *arguments: str) -> Result:
        file = tmp_path / "day.txt"
        file.write_text(text)
        words = ["sessions", "import", str(file), "--uri", shared_database.url, *arguments]
        return CliRunner().invoke(cli, words)

    return call


def calendar(uri: DatabaseURI, name: str) -> TradingCalendar:
    with db.Database(uri).connection() as conn:
        return read_calendar(conn, name)


def lines(days: Any) -> str:
    return "".join(f"{day}\n" for day in days)


def test_qlibs_file_makes_a_calendar_and_extends_it(
    shared_database: DatabaseURI, run: Callable[..., Result]
) -> None:
    past = TradingCalendar("XSHG").sessions_in_range(date(2024, 1, 1), date(2024, 3, 29))
    future = TradingCalendar("XSHG").sessions_in_range(date(2024, 1, 1), date(2024, 4, 12))
    first = run(lines(past), "--calendar", "own:cn", "--like", "XSHG")
    assert f"imported: {len(past)} sessions of own:cn" in first.output
    assert f"new: {len(past)} days, 2024-01-02 to 2024-03-29" in first.output
    assert "after 2024-03-29 sessions of XSHG are assumed" in first.output
    assert "the last, 2024-03-29, is open from 09:30 to 15:00, Asia/Shanghai" in first.output
    assert "nothing to import" in run(lines(past), "--calendar", "own:cn").output
    assert (
        f"imported: {len(future) - len(past)} sessions"
        in run(lines(future), "--calendar", "own:cn").output
    )
    assert "nothing to import" in run(lines(past), "--calendar", "own:cn").output
    kept = calendar(shared_database, "own:cn")
    assert kept.sessions_in_range(date(2024, 1, 2), date(2024, 4, 12)) == future
    assert kept.known_to == date(2024, 4, 12)


def test_a_strategy_and_a_view_count_by_a_calendar_of_its_own(
    shared_database: DatabaseURI, run: Callable[..., Result]
) -> None:
    run("2024-01-02\n2024-01-06\n", "--calendar", "own:six", "--like", "XSHG")
    monitor = DriftMonitor(
        shared_database, "six", tracking_uri=False, calendar="own:six", notify=()
    )
    monitor.configure()
    assert monitor.calendar.next_session(date(2024, 1, 2)) == date(2024, 1, 6)  # a Saturday
    with FeatureStore(shared_database, producer="tests") as store:
        store.register(FeatureView("six", ["x"], max_staleness="1 session", calendar="own:six"))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--calendar", "XSHX"], "no trading calendar 'XSHX'"),
        (["--calendar", "own:new"], "have no hours: give an exchange that has them"),
        (["--calendar", "XSHG", "--like", "XNYS"], "XSHG is an exchange"),
        (["--calendar", "XSHG", "--open", "09:30"], "--open and --close belong together"),
        (["--calendar", "own:new", "--open", "09:30", "--close", "15:00"], "give the time zone"),
        (
            ["--calendar", "XSHG", "--open", "09:30", "--close", "15:00", "--zone", "Mars/City"],
            "no time zone 'Mars/City'",
        ),
    ],
)
def test_a_calendar_without_name_or_hours_is_refused(
    run: Callable[..., Result], arguments: list[str], error: str
) -> None:
    result = run("2024-01-02\n", *arguments)
    assert result.exit_code != 0
    assert error in result.output + str(result.exception)


def test_a_refused_line_is_named_with_the_file(run: Callable[..., Result]) -> None:
    result = run("2024-01-02\nx\n", "--calendar", "XSHG")
    assert "day.txt: line 2: 'x' is no date" in result.output + str(result.exception)


def test_hours_are_kept_by_later_imports(
    shared_database: DatabaseURI, run: Callable[..., Result]
) -> None:
    hours = ["--open", "09:30", "--close", "15:00", "--zone", "Asia/Shanghai"]
    run("2024-01-02\n", "--calendar", "own:hours", *hours)
    run("2024-01-02\n2024-01-03\n", "--calendar", "own:hours")
    closes = calendar(shared_database, "own:hours").session_close(date(2024, 1, 3))
    assert closes == datetime(2024, 1, 3, 7, tzinfo=timezone.utc)


def test_a_file_that_leaves_sessions_out_between_two_imports_is_refused(
    run: Callable[..., Result],
) -> None:
    run("2024-05-06\n2024-05-07\n", "--calendar", "XLON")
    gap = run("2024-05-10\n2024-05-13\n", "--calendar", "XLON")
    assert gap.exit_code == 1
    assert "sessions are missing" in str(gap.exception)
    assert "2024-05-08, 2024-05-09" in str(gap.exception)
    # The weekend and a holiday between them are none.
    assert run("2024-05-01\n2024-05-02\n2024-05-03\n", "--calendar", "XLON").exit_code == 0


def test_a_removed_session_that_inputs_use_is_listed_and_refused(
    shared_database: DatabaseURI, run: Callable[..., Result]
) -> None:
    monitor = DriftMonitor(shared_database, "tokyo", tracking_uri=False, calendar="XTKS", notify=())
    used, unused = date(2024, 5, 7), date(2024, 5, 8)
    predictions = {"entity_key": ["A", "B"], "session": [used] * 2, "signal": [1.0, 2.0]}
    monitor.record_predictions(predictions)
    monitor.record_returns({"entity_key": ["A"], "session": [used], "value": [0.01]})
    refused = run("2024-05-02\n2024-05-09\n", "--calendar", "XTKS")
    assert refused.exit_code == 3
    assert "2024-05-07  strategy tokyo: predictions, returns" in refused.output
    assert calendar(shared_database, "XTKS").is_session(unused)
    done = run("2024-05-02\n2024-05-07\n2024-05-09\n", "--calendar", "XTKS", "--json")
    assert json.loads(done.output)["removed"] == [str(unused)]
    assert not calendar(shared_database, "XTKS").is_session(unused)


def findings(uri: DatabaseURI, now: datetime, monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    monkeypatch.setattr(calendar_checks, "_now", lambda: now)
    with db.connect(uri, autocommit=True) as conn:
        return list(calendar_checks.calendars(Patient(conn, uri, 1)))


def test_only_calendars_in_use_are_announced_before_they_end(
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    end = TradingCalendar("XSHG").known_to
    if end is None:
        pytest.skip("the installed exchange_calendars reaches beyond the next year")
    december = datetime(end.year, 12, 3, 12, tzinfo=timezone.utc)
    with new_database() as uri:
        DriftMonitor(uri, "ny", tracking_uri=False, calendar="XNYS", notify=()).configure()
        [fine] = findings(uri, december, monkeypatch)
        assert (fine.level, fine.found) == ("ok", "none of those in use ends soon: XNYS")
        monitor = DriftMonitor(uri, "cn", tracking_uri=False, calendar="XSHG", notify=())
        monitor.configure()
        [soon] = findings(uri, december, monkeypatch)
        assert soon.level == "note"
        assert soon.found == f"calendar XSHG ends on {end}, and is used by strategy cn"
        assert "pip install -U exchange_calendars, or" in soon.advice
        [over] = findings(uri, datetime(end.year + 1, 1, 4, tzinfo=timezone.utc), monkeypatch)
        assert over.level == "action"
        assert f"ended on {end}" in over.found
        assert any(f"calendar XSHG ends on {end}" in text for text in monitor.cautions(december))
        assert not any("calendar" in text for text in monitor.cautions(december.replace(month=11)))


def test_the_days_of_a_published_year_are_those_of_the_file(
    shared_database: DatabaseURI, run: Callable[..., Result]
) -> None:
    published = TradingCalendar("XHKG").sessions_in_range(date(2023, 1, 1), date(2023, 12, 31))
    result = run(lines(published), "--calendar", "XHKG", "--json")
    change = json.loads(result.output)
    assert (change["added"], change["removed"], change["imported"]) == ([], [], len(published))
    assert np.array_equal(
        calendar(shared_database, "XHKG").sessions, TradingCalendar("XHKG").sessions
    )
