"""The outbox of alerts: messages wait in a table until their targets have taken them.

A message is queued in the transaction that opens or resolves its alerts, once for each target, and
sent afterwards: by the same run, by the next one, or by the server. The row stays locked while it
is sent, so that two senders never take one message and a sender that is killed gives it back. A
message is therefore delivered at least once; its `delivery_id` shows a repeat.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from math import isfinite
from typing import Any
from uuid import UUID

from mlflow_timescale.common import logs
from mlflow_timescale.common.text import printable
from mlflow_timescale.db import Connection, load
from mlflow_timescale.db.rows import records, scalar, scalars

from .lifecycle import Alert
from .notify import Message

_queries = load("drift")
logger = logs.logger(__name__)

KEPT = timedelta(days=14)  # what no target took by then is listed, and no longer sent
_DATES = ("session", "last_session", "resolved_session")
_MOMENTS = ("silenced_until", "opened_at")


@dataclass(frozen=True)
class Delivery:
    """A message on its way to one target.

    Attributes
    ----------
    delivery_id
        The same in every attempt.
    target
        The name of the target, without its address.
    message
        The message as JSON text; `read_message` returns it as an object.
    queued_at
        When its alerts opened or resolved (aware).
    attempts, last_error
        How often it was tried, and why the last attempt failed.
    """

    delivery_id: UUID
    strategy_id: str
    session: date
    target: str
    message: str
    queued_at: datetime
    attempts: int
    last_error: str

    @property
    def title(self) -> str:
        """The title of the message."""
        return read_message(self.message).title


@dataclass(frozen=True)
class Target:
    """A receiver: its name, and the function that sends a message with a delivery id to it.

    `send` raises an exception, of any kind, where the receiver did not take the message.
    """

    label: str
    send: Callable[[Message, str], None]


def numbered(targets: Iterable[Target]) -> tuple[Target, ...]:
    """Targets whose names differ: the second of a name gets the suffix " (2)".

    >>> [target.label for target in numbered([Target("a", print), Target("a", print)])]
    ['a', 'a (2)']
    """
    counts: dict[str, int] = {}
    result = []
    for target in targets:
        counts[target.label] = count = counts.get(target.label, 0) + 1
        result.append(target if count == 1 else replace(target, label=f"{target.label} ({count})"))
    return tuple(result)


def exist(conn: Connection) -> bool:
    """Whether the database has the outbox; one that an older version migrated has none."""
    return bool(scalar(conn, _queries.deliveries_exist))


def queue(conn: Connection, message: Message, labels: Sequence[str]) -> None:
    """Queue a message for some targets, in the caller's transaction."""
    row = {
        "strategy_id": message.strategy_id,
        "session": message.session,
        "message": write_message(message),
        "targets": list(labels),
    }
    conn.execute(_queries.queue_deliveries, row)


def deliver(
    conn: Connection,
    targets: Sequence[Target],
    strategy_id: str | None = None,
    *,
    only_due: bool = False,
) -> int:
    """Send what waits for these targets; return how many messages were taken.

    A target that fails gets nothing more in this call. `only_due` leaves out messages whose wait
    after a failure is not over. Never raises for a target's sake: failures are logged, and noted.
    """
    open_targets = {target.label: target for target in targets}
    taken = 0
    while open_targets:
        row = {
            "targets": list(open_targets),
            "strategy_id": strategy_id,
            "every": not only_due,
            "kept": KEPT,
        }
        with conn.transaction():
            claimed = records(conn, Delivery, _queries.claim_delivery, row)
            if not claimed:
                break
            [delivery] = claimed
            if _send(conn, open_targets[delivery.target], delivery):
                taken += 1
            else:
                del open_targets[delivery.target]
    return taken


def sent(target: Target, message: Message) -> bool:
    """Send a message without the outbox; return whether the target took it."""
    return not _failure(target, message, "")


def _send(conn: Connection, target: Target, delivery: Delivery) -> bool:
    row = {"delivery_id": delivery.delivery_id}
    error = _failure(target, read_message(delivery.message), str(delivery.delivery_id))
    if error:
        conn.execute(_queries.not_delivered, {**row, "error": error})
    else:
        conn.execute(_queries.delivered, row)
    return not error


def _failure(target: Target, message: Message, delivery_id: str) -> str:
    """Send a message; return why the target did not take it, "" if it did."""
    try:
        target.send(message, delivery_id)
    except Exception as exc:  # a receiver's failure, of any kind, must not stop the job
        text = str(exc).partition("\n")[0].removeprefix(target.label).lstrip(": ")
        error = printable(text or type(exc).__name__)[:500]
        logger.warning("%s: %s; the next run tries again", target.label, error)
        return error
    return ""


def undelivered(conn: Connection, strategy_id: str | None = None) -> list[Delivery]:
    """The messages of the last 90 days that their targets have not taken, the oldest first."""
    if not exist(conn):
        return []
    return records(conn, Delivery, _queries.undelivered, {"strategy_id": strategy_id})


def waiting_targets(conn: Connection) -> list[str]:
    """The names of targets for which messages are due."""
    if not exist(conn):
        return []
    return [str(label) for label in scalars(conn, _queries.waiting_targets, {"kept": KEPT})]


def write_message(message: Message) -> str:
    """A message as JSON text, from which `read_message` makes an equal one."""
    content = {
        "strategy_id": message.strategy_id,
        "session": message.session,
        "opened": [_alert_fields(alert) for alert in message.opened],
        "resolved": [_alert_fields(alert) for alert in message.resolved],
        "model": message.model,
        "version": message.version,
    }
    return json.dumps(content, default=lambda moment: moment.isoformat())


def read_message(text: str) -> Message:
    """The message of a JSON text. Unknown fields, of a later version, are left out."""
    content = json.loads(text)
    return Message(
        content["strategy_id"],
        date.fromisoformat(content["session"]),
        tuple(map(_alert, content["opened"])),
        tuple(map(_alert, content["resolved"])),
        content.get("model", ""),
        content.get("version", ""),
    )


def _alert_fields(alert: Alert) -> dict[str, Any]:
    is_number = alert.value is not None and isfinite(alert.value)
    return {**asdict(alert), "value": alert.value if is_number else None}


def _alert(fields: dict[str, Any]) -> Alert:
    values: dict[str, Any] = {name: fields.get(name) for name in Alert.__dataclass_fields__}
    for name in _DATES:
        values[name] = values[name] and date.fromisoformat(values[name])
    for name in _MOMENTS:
        values[name] = values[name] and datetime.fromisoformat(values[name])
    return Alert(**values)
