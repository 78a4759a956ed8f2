"""From causes to decisions: each has a reason, and a command that the command line takes."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import date, datetime, timezone
from types import SimpleNamespace
from typing import Any

import click
import pytest

from drift.incidents.causes import Cause, ordered, shows
from drift.incidents.decisions import Circumstances, decisions
from mlflow_timescale.cli import cli

DAY, END = date(2024, 4, 18), date(2024, 5, 31)
NOW = datetime(2024, 6, 1, tzinfo=timezone.utc)


def alert(metric: str, alert_id: int = 7, **changed: Any) -> Any:
    fields = {
        "rule": metric,
        "severity": "critical",
        "session": DAY,
        "last_session": END,
        "action": "Cut the position by 50%.",
    }
    return SimpleNamespace(metric=metric, alert_id=alert_id, **{**fields, **changed})


def cause(kind: str, subject: str, last: date | None = None, /, **details: Any) -> Cause:
    severity = "note" if kind == "revision" else "critical"
    return Cause(kind, subject, f"{subject} is wrong", severity, DAY, last, 9, (), details)


LATE = cause("skew", "rsi_14", kind="shifted", sessions=1)
WRITTEN_LATE = cause("skew", "rsi_14", kind="written late")
CLOCK = cause("clock", "rsi_14", reading="looks like UTC written as Asia/Shanghai time")
VERSION = {"model": "gbm", "version": "2", "alias": "champion", "champion": 1}
WRONG_VERSION = cause("version", "gbm/2", **VERSION, moved=False)
AFTER_A_PROMOTION = cause("version", "gbm/1", **VERSION, moved=True)
PAST_VERSION = cause("version", "gbm/2", date(2024, 5, 1), **VERSION, moved=False)
DECAY = cause("decay", "IC", low=date(2024, 4, 3), high=date(2024, 5, 7))
PROMOTED = cause("decay", "IC", low=DAY, high=DAY, reading="a promotion: champion became 2")
REVISED = cause("revision", "ret_5d", END)
REPLAY = cause("replay", "AAPL on 2024-05-31", END, model="gbm", version="1")
OTHER = cause("alert", "feature stopped", action="Check that the feature job runs.", alert_id=9)

CASES = {
    "a late input": ([LATE], ["incident skew", "drift ack"]),
    "written after the decision": (
        [WRITTEN_LATE],
        ["features lineage", "incident skew", "drift ack"],
    ),
    "a clock": ([CLOCK], ["features lineage", "drift ack"]),
    "a clock that made a value late": ([LATE, CLOCK], ["features lineage", "drift ack"]),
    "a wrong version": ([WRONG_VERSION], ["incident version", "registry history"]),
    "serving did not follow the alias": (
        [AFTER_A_PROMOTION],
        ["incident version", "registry rollback"],
    ),
    "a wrong version that is over": ([PAST_VERSION], ["incident version", "registry history"]),
    "decay of the signal": ([DECAY], ["reproduce gbm/1", "drift ack"]),
    "decay with a fault behind it": (
        [LATE, DECAY],
        ["incident skew", "drift ack", "incident onset"],
    ),
    "decay after a change": ([PROMOTED], ["incident onset", "drift ack"]),
    "a revision": ([REVISED], ["features diff"]),
    "another output": ([REPLAY], ["artifacts verify"]),
    "another alert": ([OTHER], ["drift ack"]),
    "an alert in the time of a fault": (
        [LATE, OTHER],
        ["incident skew", "drift ack -s 'momentum us' 7", "drift alerts"],
    ),
    "nothing": ([], []),
}


def circumstances(*alerts: Any) -> Circumstances:
    return Circumstances("momentum us", END, NOW, alerts, "gbm/1")


def parse(command: str) -> None:
    """Raises click.UsageError for a command line that the program refuses."""
    program, *words = shlex.split(command)
    assert program == "mlflow-timescale"
    group: click.Command = cli
    context = click.Context(cli)
    name: str | None = program
    while isinstance(group, click.Group):
        name, found, words = group.resolve_command(context, words)
        assert found is not None
        group, context = found, click.Context(found, parent=context)
    group.make_context(name, list(words), parent=context.parent)


@pytest.mark.parametrize(("causes", "commands"), CASES.values(), ids=CASES.keys())
def test_each_cause_leads_to_decisions_with_commands(
    causes: list[Cause], commands: list[str]
) -> None:
    taken = decisions(causes, circumstances(alert("skew"), alert("ic", 8)))
    shown = [decision.command.removeprefix("mlflow-timescale ") for decision in taken]
    assert [
        command
        for command, start in zip(shown, commands, strict=True)
        if not command.startswith(start)
    ] == []
    assert all(decision.reason for decision in taken)
    for decision in taken:
        parse(decision.command)


def test_retraining_is_not_advised_while_an_input_is_wrong() -> None:
    texts = [d.text for d in decisions([LATE, DECAY], circumstances(alert("ic")))]
    assert "Do not retrain yet." in texts
    assert not [text for text in texts if text.startswith("Retrain")]
    texts = [d.text for d in decisions([DECAY], circumstances(alert("ic")))]
    assert texts == ["Retrain gbm.", "Cut the position by 50%."]


def test_a_fault_that_ended_long_before_is_not_behind_a_decay() -> None:
    early = cause("skew", "rsi_14", date(2024, 3, 1), kind="shifted")
    texts = [d.text for d in decisions([early, DECAY], circumstances())]
    assert "Retrain gbm." in texts


def test_a_decision_that_two_causes_ask_for_stands_once() -> None:
    other = cause("skew", "ret_5d", kind="scaled")
    taken = decisions([LATE, other], circumstances(alert("skew")))
    assert taken[0].text.startswith("Have rsi_14, ret_5d repaired")
    assert len(taken) == 2


def test_a_wrong_input_comes_before_the_worse_fall_that_follows_from_it() -> None:
    fall = replace(DECAY, severity="emergency")
    harmless = replace(LATE, severity="warning")
    assert ordered([fall, LATE]) == (LATE, fall)
    assert ordered([fall, harmless]) == (fall, harmless)


def test_what_holds_comes_before_what_is_over_and_faults_before_alerts() -> None:
    assert ordered([REVISED, OTHER, PAST_VERSION, DECAY, LATE]) == (
        LATE,
        DECAY,
        OTHER,
        PAST_VERSION,
        REVISED,
    )


def test_a_fault_comes_before_the_severer_alert_on_its_effect() -> None:
    halted = replace(DECAY, severity="emergency")
    assert ordered([halted, LATE]) == (LATE, halted)


@pytest.mark.parametrize(
    ("metric", "first", "last", "expected"),
    [
        ("skew", DAY, END, True),
        ("skew", date(2024, 1, 2), date(2024, 1, 5), False),
        ("ic", DAY, END, False),
    ],
)
def test_an_alert_shows_a_cause_of_its_kind_and_time(
    metric: str, first: date, last: date, expected: bool
) -> None:
    assert shows(alert(metric, session=first, last_session=last), LATE) is expected
