"""The outbox of alerts: every message reaches every target, also after a crash."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from mlflow import MlflowClient
from support.servers import timescale_server
from support.strategies import Strategy
from support.webhooks import Webhook

from drift import DriftMonitor, Rule
from drift.alerts import commands, deliveries, retraining
from drift.alerts.deliveries import Target
from drift.alerts.notify import Message, NotificationFailed
from drift.daily import Daily, daily_job
from mlflow_timescale import db
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.operations.doctor import examine
from mlflow_timescale.server import alert_sender

LOW = Rule("low", "ic", "<", 0.0, severity="critical", action="Look at it.")
PYTHON = sys.executable
KEEP = "import os, sys; open(sys.argv[1], 'a').write(sys.stdin.read() + chr(10))"


@pytest.fixture(scope="module")
def outbox_database(
    new_database: Callable[..., AbstractContextManager[DatabaseURI]],
) -> Iterator[DatabaseURI]:
    with new_database() as uri:
        yield uri


@pytest.fixture
def name() -> str:
    return f"momentum-{uuid.uuid4().hex[:6]}"


@pytest.fixture
def day(outbox_database: DatabaseURI, name: str) -> date:
    """The session on which the strategy's critical alert opens."""
    monitor = DriftMonitor(outbox_database, name, rules=[LOW], notify=(), tracking_uri=False)
    days = monitor.configure().calendar.sessions_in_range(date(2024, 1, 2), date(2024, 1, 31))[:5]
    Strategy.of(days, [0.9, 0.9, 0.9, -0.9, 0.9]).record(monitor)
    monitor.backfill(days[0], days[2])
    return days[3]


def watcher(uri: DatabaseURI, name: str, **options: Any) -> DriftMonitor:
    return DriftMonitor(uri, name, **{"notify": (), "tracking_uri": False, **options})


def message_of(uri: DatabaseURI, name: str, day: date) -> Message:
    messages: list[Message] = []
    watcher(uri, name, on_alert=messages.append).run_daily(day)
    return messages[0]


def keeping(file: Path) -> str:
    return f"{PYTHON} -c {json.dumps(KEEP)} {file}"


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines() if line]


def test_a_message_is_the_same_after_the_table(
    outbox_database: DatabaseURI, name: str, day: date
) -> None:
    message = message_of(outbox_database, name, day)
    assert deliveries.read_message(deliveries.write_message(message)) == message
    assert [trigger.cause for trigger in message.retraining] == ["ic"]


def test_a_command_gets_the_decision_on_its_standard_input_and_in_variables(
    outbox_database: DatabaseURI, name: str, day: date, tmp_path: Path
) -> None:
    file = tmp_path / "told"
    script = (
        "import json, os, sys; content = json.load(sys.stdin);"
        "content['env'] = {k: v for k, v in os.environ.items() if k.startswith('MLFLOW_TIMESC')};"
        f"open({str(file)!r}, 'a').write(json.dumps(content) + chr(10))"
    )
    [result] = daily_job(
        outbox_database,
        [name],
        session=day,
        notify=(),
        tracking_uri=False,
        on_alert=f"{PYTHON} -c {json.dumps(script)}",
    )
    assert isinstance(result, Daily)
    assert [trigger.text for trigger in result.retraining] == [f"ic: low since {day}"]
    assert f"Retraining trigger: ic: low since {day}." in result.decision
    [content] = lines(file)
    assert content["retraining"] == [{"cause": "ic", "rule": "low", "session": str(day)}]
    assert content["env"]["MLFLOW_TIMESCALE_RETRAINING"] == "ic"
    assert content["env"]["MLFLOW_TIMESCALE_DELIVERY_ID"] == content["delivery_id"]


def test_a_command_that_fails_loses_no_result_and_is_run_again_with_the_same_id(
    outbox_database: DatabaseURI, name: str, day: date, tmp_path: Path
) -> None:
    switch, file = tmp_path / "right", tmp_path / "told"
    script = (
        f"import os, sys; open({str(file)!r}, 'a').write(sys.stdin.read() + chr(10));"
        f"sys.exit(0 if os.path.exists({str(switch)!r}) else 3)"
    )
    options: dict[str, Any] = {
        "notify": (),
        "tracking_uri": False,
        "on_alert": f"{PYTHON} -c {json.dumps(script)} s3cret",
    }
    [result] = daily_job(outbox_database, [name], session=day, **options)
    assert isinstance(result, Daily)
    assert result.metrics.ic is not None
    [waiting] = result.undelivered
    assert waiting.last_error.endswith("ended with exit code 3")
    assert waiting.attempts == 1
    assert "s3cret" not in waiting.target + waiting.last_error
    with db.connect(outbox_database, autocommit=True) as conn:
        [finding] = [f for f in examine(conn, outbox_database) if f.check == "alerts"]
    assert finding.level == "action"
    assert waiting.target in finding.found
    switch.touch()
    [result] = daily_job(outbox_database, [name], session=day, **options)
    assert isinstance(result, Daily)
    assert result.undelivered == ()
    daily_job(outbox_database, [name], session=day, **options)
    assert len({content["delivery_id"] for content in lines(file)}) == 1
    assert len(lines(file)) == 2


def test_each_target_is_tried_again_by_itself(
    outbox_database: DatabaseURI, name: str, day: date, webhook: Webhook
) -> None:
    down = "http://127.0.0.1:9/s3cret"
    monitor = watcher(outbox_database, name, notify=[down, webhook.url])
    monitor.run_daily(day)
    monitor.run_daily(day)
    assert len(webhook.told) == 1
    assert webhook.headers[0]["Idempotency-Key"] == webhook.told[0]["delivery_id"]
    [waiting] = monitor.undelivered()
    assert (waiting.target, waiting.attempts) == ("webhook at 127.0.0.1:9", 2)


def test_two_senders_do_not_take_one_message(
    outbox_database: DatabaseURI, name: str, day: date
) -> None:
    watcher(outbox_database, name, on_alert=refuse).run_daily(day)
    taken: list[str] = []

    def send_while_another_sends(message: Message, delivery_id: str) -> None:
        with db.connect(outbox_database, autocommit=True) as other:
            second = Target("function", lambda message, delivery_id: taken.append("second"))
            assert deliveries.deliver(other, [second], name) == 0
        taken.append("first")

    with db.connect(outbox_database, autocommit=True) as conn:
        target = Target("function", send_while_another_sends)
        assert deliveries.deliver(conn, [target], name, only_due=True) == 0  # its wait is not over
        assert deliveries.deliver(conn, [target], name) == 1
    assert taken == ["first"]


def refuse(message: Message) -> None:
    raise RuntimeError("not now")


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "after"])
def test_kill_9_between_the_write_and_the_note_of_the_delivery_loses_no_message(
    outbox_database: DatabaseURI, name: str, day: date, tmp_path: Path, moment: str
) -> None:
    file = tmp_path / "told"
    deliver = f"open({str(file)!r}, 'a').write(sys.stdin.read() + chr(10));"
    kill = "os.kill(os.getppid(), 9);"
    script = f"import os, sys; {deliver if moment == 'after' else ''} {kill}"
    command = f"{PYTHON} -c {json.dumps(script)}"
    program = (
        "from datetime import date; from drift import DriftMonitor;"
        f"DriftMonitor({outbox_database.url!r}, {name!r}, notify=(), tracking_uri=False,"
        f" on_alert={command!r}).run_daily(date.fromisoformat('{day}'))"
    )
    killed = subprocess.run([PYTHON, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL
    monitor = watcher(outbox_database, name, on_alert=keeping(file))
    assert monitor.metrics(day, day)[0].ic is not None  # the results are stored
    [waiting] = monitor.undelivered()
    monitor.run_daily(day)
    assert {content["delivery_id"] for content in lines(file)} == {str(waiting.delivery_id)}
    assert len(lines(file)) == (2 if moment == "after" else 1)
    assert monitor.undelivered() == []


@pytest.mark.slow
def test_a_command_that_does_not_end_is_killed_with_its_children(
    outbox_database: DatabaseURI, name: str, day: date, tmp_path: Path
) -> None:
    message = message_of(outbox_database, name, day)
    file = tmp_path / "pid"
    script = (
        "import subprocess, sys, time; child = subprocess.Popen(['sleep', '600']);"
        f"open({str(file)!r}, 'w').write(str(child.pid)); time.sleep(600)"
    )
    with pytest.raises(NotificationFailed, match=r"did not end within 3 s"):
        commands.run([PYTHON, "-c", script], message, "", 3.0)
    assert has_ended(int(file.read_text()))


def has_ended(pid: int) -> bool:
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_a_program_that_is_not_there_is_named(
    outbox_database: DatabaseURI, name: str, day: date
) -> None:
    message = message_of(outbox_database, name, day)
    with pytest.raises(NotificationFailed, match="command no-such cannot be run: No such file"):
        commands.run(["/opt/no-such"], message, "", 1.0)


def test_the_server_sends_what_a_killed_job_has_left(
    outbox_database: DatabaseURI,
    name: str,
    day: date,
    webhook: Webhook,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leave_a_message(outbox_database, name, day, webhook.url)
    monkeypatch.setenv("MLFLOW_TIMESCALE_NOTIFY", webhook.url)
    alert_sender.send(outbox_database.url)
    alert_sender.send(outbox_database.url)
    assert [message["strategy_id"] for message in webhook.told] == [name]


@pytest.mark.slow
def test_a_running_server_empties_the_outbox(
    outbox_database: DatabaseURI, name: str, day: date, webhook: Webhook, tmp_path: Path
) -> None:
    leave_a_message(outbox_database, name, day, webhook.url)
    environment = {"MLFLOW_TIMESCALE_NOTIFY": webhook.url}
    arguments = ["--uri", outbox_database.url, "--workers", "2"]
    with timescale_server(*arguments, log_file=tmp_path / "log", environment=environment):
        deadline = time.monotonic() + 60
        while not webhook.told and time.monotonic() < deadline:
            time.sleep(0.2)
    assert [message["strategy_id"] for message in webhook.told] == [name]


def leave_a_message(uri: DatabaseURI, name: str, day: date, url: str) -> None:
    """Compute a session, and queue its message without sending it."""
    monitor = watcher(uri, name, notify=[url])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("drift.alerts.messages.Messages.deliver", lambda *_: None)
        monitor.run_daily(day)
    assert len(monitor.undelivered()) == 1


def test_webhooks_of_the_registry_get_the_retraining_trigger_with_a_signature(
    outbox_database: DatabaseURI,
    name: str,
    day: date,
    webhook: Webhook,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true")
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http,https")
    client = MlflowClient(tracking_uri=outbox_database.url, registry_uri=outbox_database.url)
    client.create_registered_model(name)
    client.create_model_version(name, "s3://bucket/model", None)
    hook = client.create_webhook("retrain", webhook.url, ["model_version_tag.set"], secret="k3y")
    monitor = watcher(outbox_database, f"{name} judged", rules=[LOW])
    monitor.configure(model_name=name)
    negative = Strategy.of([day], -0.9)
    versioned = {"model_name": [name] * 40, "model_version": ["1"] * 40}
    monitor.record_predictions(negative.predictions(**versioned))
    monitor.record_returns(negative.realized())
    webhook.code = 500
    monitor.run_daily(day)
    webhook.code = 200
    monitor.run_daily(day)
    client.delete_webhook(hook.webhook_id)
    [_, second] = webhook.told
    assert second["data"] == {
        "name": name,
        "version": "1",
        "key": "drift.retraining",
        "value": f"ic {day}",
    }
    headers, again = webhook.headers
    assert headers["X-MLflow-Delivery-Id"] == again["X-MLflow-Delivery-Id"]
    assert client.get_model_version(name, "1").tags["drift.retraining"] == f"ic {day}"
    content = json.dumps(second).encode()
    signed = f"{again['X-MLflow-Delivery-Id']}.{again['X-MLflow-Timestamp']}.".encode() + content
    digest = hmac.new(b"k3y", signed, hashlib.sha256).digest()
    assert again["X-MLflow-Signature"] == f"v1,{base64.b64encode(digest).decode()}"


def test_a_writer_changes_no_message(people: Any) -> None:
    with (
        db.connect(people.uri("mlops_writer"), autocommit=True) as conn,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        conn.execute("UPDATE mlops.drift_deliveries SET message = '{}'")


def test_a_database_that_an_older_version_migrated_loses_no_message(
    database: DatabaseURI, webhook: Webhook
) -> None:
    monitor = DriftMonitor(database, "m", rules=[LOW], notify=[webhook.url], tracking_uri=False)
    days = monitor.configure().calendar.sessions_in_range(date(2024, 1, 2), date(2024, 1, 8))
    Strategy.of(days[:3], -0.9).record(monitor)
    with db.connect(database, autocommit=True) as conn:
        conn.execute("DROP TABLE mlops.drift_deliveries")
    webhook.code = 500
    monitor.run_daily(days[0])
    webhook.code = 200
    monitor.run_daily(days[0])
    monitor.run_daily(days[0])
    assert len(webhook.told) == 2
    assert monitor.undelivered() == []


def test_causes_are_those_of_critical_alerts_only(
    outbox_database: DatabaseURI, name: str, day: date
) -> None:
    [alert] = message_of(outbox_database, name, day).opened
    others = [("skew", "critical"), ("psi_ratio", "emergency"), ("psi_ratio", "warning")]
    alerts = [alert, *(_with(alert, metric, severity) for metric, severity in others)]
    found = retraining.triggers([*alerts, _with(alert, "stopped", "critical")])
    assert retraining.causes(found) == "skew psi ic"
    assert found[0].text.endswith("; repair what was served before retraining")


def _with(alert: Any, metric: str, severity: str) -> Any:
    from dataclasses import replace

    return replace(alert, metric=metric, severity=severity)
