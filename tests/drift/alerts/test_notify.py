"""Telling people: one message per strategy and session."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import date, datetime, timezone

import pytest
from support.strategies import Strategy
from support.webhooks import Webhook

from drift import Alert, DriftMonitor, Rule
from drift.alerts.notify import Message, NotificationFailed, send

LOW = Rule("low", "ic", "<", 0.0, sessions=2, action="Look at it.")
VERY_LOW = Rule("very low", "ic", "<", -0.5, severity="critical", inhibits=("low",))


ALERT = Alert(
    alert_id=1,
    session=date(2024, 1, 12),
    rule="low",
    severity="warning",
    state="open",
    metric="ic",
    value=-0.1,
    action="Look at it.",
    note="",
    last_session=date(2024, 1, 12),
    resolved_session=None,
    silenced_until=None,
    changed_by="drift",
    inhibited=False,
    notified_state=None,
    opened_at=datetime(2024, 1, 12, 22, tzinfo=timezone.utc),
)


@pytest.fixture
def watched(monitor: DriftMonitor, webhook: Webhook) -> DriftMonitor:
    return DriftMonitor(
        monitor.uri, "momentum", rules=[LOW, VERY_LOW], notify=[webhook.url], tracking_uri=False
    )


@pytest.fixture
def faulty(days: list[date], make: Callable[..., Strategy]) -> Strategy:
    return make(days[:20], [0.9] * 5 + [-0.9] * 5 + [0.9] * 10)


def run(monitor: DriftMonitor, strategy: Strategy, start: int, end: int) -> None:
    for day in strategy.days[start:end]:
        monitor.run_daily(day)


def test_one_message_says_what_opened_on_a_session(
    watched: DriftMonitor, faulty: Strategy, webhook: Webhook
) -> None:
    faulty.record(watched)
    run(watched, faulty, 3, 6)
    [message] = webhook.told
    assert message["title"] == f"[critical] momentum {faulty.days[5]}: very low"
    assert [alert["rule"] for alert in message["opened"]] == ["very low"]
    run(watched, faulty, 5, 7)
    assert len(webhook.told) == 1  # nothing new, and "low" is inhibited by "very low"


def test_a_resolution_is_told_once(
    watched: DriftMonitor, faulty: Strategy, webhook: Webhook
) -> None:
    faulty.record(watched)
    run(watched, faulty, 3, 12)
    assert [bool(message["resolved"]) for message in webhook.told] == [False, True]
    assert webhook.told[1]["title"].startswith("[resolved] momentum")


def test_a_backfill_is_quiet_unless_asked(
    watched: DriftMonitor, faulty: Strategy, webhook: Webhook
) -> None:
    faulty.record(watched)
    watched.backfill(faulty.days[0], faulty.days[7])
    run(watched, faulty, 8, 9)
    assert webhook.told == []
    assert [alert.state for alert in watched.alerts()] == ["open", "open"]
    loud = DriftMonitor(watched.uri, "loud", rules=[LOW], notify=[webhook.url], tracking_uri=False)
    faulty.record(loud)
    loud.backfill(faulty.days[0], faulty.days[7], notify=True)
    assert len(webhook.told) == 1


def test_a_message_that_fails_is_sent_by_the_next_run(
    watched: DriftMonitor, faulty: Strategy, webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    faulty.record(watched)
    webhook.code = 500
    run(watched, faulty, 3, 6)
    assert "the next run tries again" in caplog.text
    assert "s3cret" not in caplog.text
    webhook.code = 200
    run(watched, faulty, 5, 6)
    run(watched, faulty, 5, 6)
    assert [message["title"] for message in webhook.told] == [webhook.told[0]["title"]] * 2


def test_an_acknowledged_or_silenced_alert_is_not_told_of(
    watched: DriftMonitor, faulty: Strategy, webhook: Webhook
) -> None:
    faulty.record(watched)
    period = {
        "since": watched.calendar.session_close(faulty.days[0]),
        "until": watched.calendar.session_close(faulty.days[9]),
    }
    for rule in ("low", "very low"):
        watched.silence(rule, by="ann", why="index change", **period)
    run(watched, faulty, 3, 9)
    assert webhook.told == []


def test_recommendations_reach_the_hook_and_nothing_else_happens(
    monitor: DriftMonitor, faulty: Strategy
) -> None:
    told: list[Message] = []
    watched = DriftMonitor(
        monitor.uri, "momentum", rules=[LOW], notify=(), on_alert=told.append, tracking_uri=False
    )
    faulty.record(watched)
    run(watched, faulty, 3, 7)
    [message] = told
    assert message.opened[0].action == "Look at it."
    assert "Look at it." in message.text


def test_a_server_that_is_down_is_named_without_its_secret() -> None:
    message = Message("momentum", date(2024, 1, 12), (), ())
    with pytest.raises(NotificationFailed, match=r"127\.0\.0\.1:9 failed") as caught:
        send(message, ["http://127.0.0.1:9/hook/s3cret"])
    assert "s3cret" not in str(caught.value)


def test_other_targets_go_through_apprise(webhook: Webhook) -> None:
    message = Message("momentum", date(2024, 1, 12), (ALERT,), ())
    send(message, [webhook.url.replace("http://", "json://")])
    assert webhook.told[0]["title"] == message.title
    with pytest.raises(NotificationFailed, match="does not understand the nonsense: target"):
        send(message, ["nonsense://token"])


def test_one_target_that_fails_does_not_keep_the_others_from_being_told(webhook: Webhook) -> None:
    message = Message("momentum", date(2024, 1, 12), (), ())
    with pytest.raises(NotificationFailed):
        send(message, ["http://127.0.0.1:9/", webhook.url])
    assert len(webhook.told) == 1


@pytest.mark.parametrize(
    "target",
    [
        "https://127.0.0.1:1/services/s3cret",
        "HTTP://127.0.0.1:1/services/s3cret",
        "http://127.0.0.1:1?token=s3cret",
        "http://ann:s3cret@127.0.0.1:1/x",
        "http://ann:pa/s3cret@127.0.0.1:1/x",
        "http://127.0.0.1:1/services/s3cret with a blank",
        "http://127.0.0.1:1/services/s3cret\n",
        "http://127.0.0.1:x/s3cret",
        "http:///s3cret",
        "http://[::1/s3cret",
        "http://127.0.0.1:1/s3cret-株式",
        "hooks.example/services/s3cret",
        "s3cret",
        "nonsense://s3cret/channel",
        "json://127.0.0.1:1/s3cret",
    ],
)
def test_no_error_and_no_log_line_shows_a_target(
    target: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    message = Message("momentum", date(2024, 1, 12), (), ())
    with pytest.raises(NotificationFailed) as caught:
        send(message, [target])
    text = "".join(traceback.format_exception(caught.value))
    out, err = capsys.readouterr()
    assert "s3cret" not in text.replace(repr(target), "") + caplog.text + out + err


def test_a_title_is_one_line_for_services_that_make_it_a_header() -> None:
    message = Message("momentum\r\nBcc: mallory@example.com", date(2024, 1, 12), (), ())
    assert message.title.isprintable()
