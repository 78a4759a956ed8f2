"""Which version served beside the alias: planted wrong versions, on one database."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import numpy as np
import psycopg
import pytest
from click.testing import CliRunner
from support.strategies import NAMES, Strategy

from drift import DriftMonitor
from drift.incidents.picture import versions_picture
from drift.incidents.questions import NothingServed
from drift.incidents.versions import AliasMove, ServedSession, ServedVersions, intervals
from mlflow_timescale.cli import cli

DAY = date(2024, 4, 17)


def set_alias(
    conn: psycopg.Connection[Any],
    model: str,
    version: int,
    start: str,
    end: str | None = None,
    alias: str = "champion",
) -> None:
    conn.execute(
        "INSERT INTO mlops.registry_history (workspace, name, kind, subject, version, valid_from, "
        "valid_to, ended, mlflow_user, reason) VALUES ('default', %s, 'alias', %s, %s, %s, %s, "
        "%s, 'ann', 'better')",
        (model, alias, version, start, end, "changed" if end else None),
    )


def ann(monitor: DriftMonitor) -> str:
    """Who set the alias: a name that is only claimed stands behind the login."""
    with monitor.connect() as conn:
        return f"{conn.info.user} (claims ann)"


def record(monitor: DriftMonitor, versions: list[str], model: str) -> list[date]:
    """One version a session."""
    days = monitor.calendar.sessions_in_range(date(2024, 4, 1), date(2024, 6, 30))[: len(versions)]
    strategy = Strategy.of(days)
    named = np.repeat(versions, len(NAMES)).tolist()
    monitor.record_predictions(
        strategy.predictions(model_name=[model] * len(named), model_version=named)
    )
    monitor.record_returns(strategy.realized())
    return days


def test_ten_sessions_of_another_version_are_one_interval(monitor: DriftMonitor) -> None:
    model = monitor.strategy_id
    days = record(monitor, ["1"] * 5 + ["2"] * 10 + ["1"] * 5, model)
    with monitor.connect() as conn:
        set_alias(conn, model, 1, "2024-01-08")
    monitor.backfill(days[0], days[-1])
    found = monitor.served_versions(days[0], days[-1])
    assert [(i.served, i.sessions, i.verdict) for i in found.intervals] == [
        (f"{model}/1", 5, "agrees"),
        (f"{model}/2", 10, "differs"),
        (f"{model}/1", 5, "agrees"),
    ]
    assert (found.intervals[1].first, found.intervals[1].last) == (days[5], days[14])
    assert (found.sessions, found.differing, found.first_alert) == (20, 10, days[5])
    assert versions_picture(found).startswith(b"\x89PNG")
    ics = [metrics.ic for metrics in monitor.metrics(days[5], days[14])]
    assert found.intervals[1].mean_ic == pytest.approx(np.mean(ics))
    assert found.lines()[:3] == [
        f"served{' ' * 13}from        to          sessions  champion              mean IC",
        f"{model}/1  {days[0]}  {days[4]}         5  1                     "
        f"{found.intervals[0].mean_ic:+.3f}",
        f"{model}/2  {days[5]}  {days[14]}        10  1         <- DIFFERS  "
        f"{found.intervals[1].mean_ic:+.3f}",
    ]
    assert found.lines()[4:] == [
        f"10 sessions served by a version that was not champion. First alert: {days[5]}.",
        f"{model}@champion is 1, unchanged since 2024-01-08 00:00Z by {ann(monitor)}: better.",
    ]


def test_sessions_before_the_history_of_the_alias_are_unknown(monitor: DriftMonitor) -> None:
    model = monitor.strategy_id
    days = record(monitor, ["1"] * 6, model)
    with monitor.connect() as conn:
        set_alias(conn, model, 2, f"{days[2]}", f"{days[4]}")
        conn.execute(
            "UPDATE mlops.registry_history SET ended = 'deleted', ended_db_user = 'bob' "
            "WHERE name = %s",
            [model],
        )
    found = monitor.served_versions(days[0], days[-1])
    assert [(i.verdict, i.sessions) for i in found.intervals] == [
        ("unknown", 2),
        ("differs", 2),
        ("no alias", 2),
    ]
    assert found.lines()[-1] == f"{model}@champion was removed on {days[4]} 00:00Z by bob."


def test_the_alias_may_be_another_one(monitor: DriftMonitor) -> None:
    model = monitor.strategy_id
    days = record(monitor, ["3"], model)
    with monitor.connect() as conn:
        set_alias(conn, model, 1, "2024-01-08")
        set_alias(conn, model, 3, "2024-01-08", alias="live")
    assert not monitor.served_versions(days[0]).agrees
    assert monitor.served_versions(days[0], alias="live").agrees


def test_a_version_beside_the_judged_one_is_shown(monitor: DriftMonitor) -> None:
    model = monitor.strategy_id
    days = record(monitor, ["1"], model)
    shadow = {"entity_key": ["N00"], "signal": [0.5], "session": [days[0]]}
    monitor.record_predictions({**shadow, "model_name": [model], "model_version": ["2"]})
    [interval] = monitor.served_versions().intervals
    assert (interval.model_version, interval.beside) == ("1", (f"{model}/2",))
    with monitor.connect() as conn:
        set_alias(conn, model, 2, "2024-01-08")
    found = monitor.served_versions()  # the champion is judged, with one name of forty
    assert (found.intervals[0].model_version, found.agrees) == ("2", True)
    assert found.to_dict()["outnumbered"] == {f"{model}/1": 1}
    assert found.lines()[-2] == (
        f"{model}/1 made more predictions than the judged version in 1 session: a shadow, or what "
        f"was traded?"
    )


def test_without_predictions_there_is_no_last_session(monitor: DriftMonitor) -> None:
    with pytest.raises(NothingServed, match="no prediction"):
        monitor.served_versions()
    assert monitor.served_versions(DAY).lines() == ["Nothing was served in these sessions."]


def test_the_command_answers_with_its_exit_code(monitor: DriftMonitor) -> None:
    model = monitor.strategy_id
    days = record(monitor, ["1", "2"], model)
    with monitor.connect() as conn:
        set_alias(conn, model, 1, "2024-01-08")
    words = ["incident", "version", "--uri", monitor.uri.url, "-s", model]
    printed = CliRunner().invoke(cli, [*words, f"{days[0]}"])
    assert printed.exit_code == 0, printed.output
    printed = CliRunner().invoke(cli, words)  # the last session
    assert printed.exit_code == 3, printed.output
    assert "1         <- DIFFERS" in printed.output
    printed = CliRunner().invoke(cli, [*words, "--json", f"{days[0]}", f"{days[1]}"])
    answer = json.loads(printed.output)
    assert (answer["sessions"], answer["differing"], answer["agrees"]) == (2, 1, False)
    assert answer["intervals"][1]["model_version"] == "2"
    assert answer["moves"][0]["by"] == ann(monitor)


@pytest.mark.parametrize(
    ("served", "joined"),
    [
        ([], []),
        ([("1", 1), ("1", 1)], [("1", 1, 2)]),
        ([("1", 1), ("1", 2), ("1", 1)], [("1", 1, 1), ("1", 2, 1), ("1", 1, 1)]),
        ([("1", 1), ("2", 1), ("2", 1)], [("1", 1, 1), ("2", 1, 2)]),
        ([("1", None), ("1", 1)], [("1", None, 1), ("1", 1, 1)]),
    ],
)
def test_sessions_join_while_nothing_changes(
    served: list[tuple[str, int | None]], joined: list[tuple[str, int | None, int]]
) -> None:
    sessions = [ServedSession(DAY, "gbm", version, alias, "agrees") for version, alias in served]
    found = intervals(sessions)
    assert [(i.model_version, i.alias_version, i.sessions) for i in found] == joined


def test_every_move_of_the_alias_is_a_line() -> None:
    moments = [np.datetime64(f"2024-04-{day:02d}T12:00").item() for day in (1, 9)]
    moves = tuple(
        AliasMove("gbm", "champion", version, moment, None, by, reason)
        for version, moment, by, reason in zip(
            (1, 2), moments, ("ann", "bob"), ("first", ""), strict=True
        )
    )
    served = intervals([ServedSession(DAY, "gbm", "2", 2, "agrees")])
    assert ServedVersions("momentum", DAY, DAY, "champion", served, moves).lines()[2:] == [
        "1 session served by the version that was champion.",
        "gbm@champion was 1 since 2024-04-01 12:00Z by ann: first.",
        "gbm@champion became 2 on 2024-04-09 12:00Z by bob.",
    ]
