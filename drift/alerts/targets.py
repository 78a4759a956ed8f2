"""Who gets the messages of a strategy: the URLs, function or command that its process was given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from mlflow_timescale.common.settings import NOTIFY, ON_ALERT
from mlflow_timescale.db import Connection, DatabaseURI, connect

from . import commands, deliveries, registry_webhooks
from .deliveries import Target
from .notify import Hook, Message, label, send_to

OnAlert: TypeAlias = "Hook | str | Target"


def configured(urls: Sequence[str] | str | None, on_alert: OnAlert | None) -> tuple[Target, ...]:
    """The targets of a process: by default those of MLFLOW_TIMESCALE_NOTIFY and _ON_ALERT.

    Raises ValueError for a command that is empty or has an open quotation mark.
    """
    if isinstance(urls, str):
        urls = (urls,)
    receivers = [_of_url(url) for url in (NOTIFY.get() if urls is None else urls)]
    receiver = ON_ALERT.get() if on_alert is None else on_alert
    if receiver is not None:
        receivers.append(_of_receiver(receiver))
    return deliveries.numbered(receivers)


def labels_for(
    conn: Connection, uri: DatabaseURI, own: Sequence[Target], message: Message
) -> list[str]:
    """The names of all targets of a message: the process's own, and the registry's webhooks."""
    hooks = registry_webhooks.targets(conn, uri) if registry_webhooks.concerns(message) else []
    return [target.label for target in (*own, *hooks)]


def deliver_waiting(uri: str | DatabaseURI) -> int:
    """Send the messages that are due, of every strategy; return how many were taken.

    Parameters
    ----------
    uri
        The database. The targets are those of the environment, and the webhooks of its registry.
    """
    database = DatabaseURI.parse(uri)
    with connect(database, autocommit=True) as conn:
        if not deliveries.waiting_targets(conn):
            return 0
        hooks = registry_webhooks.targets(conn, database)
        return deliveries.deliver(conn, (*configured(None, None), *hooks), only_due=True)


def _of_url(url: str) -> Target:
    return Target(label(url), lambda message, delivery_id: send_to(url, message, delivery_id))


def _of_receiver(receiver: OnAlert) -> Target:
    if isinstance(receiver, Target):
        return receiver
    if isinstance(receiver, str):
        return commands.target(receiver)
    return Target("function", lambda message, delivery_id: receiver(message))
