"""Notifications: one message per strategy and session, by webhook or through Apprise.

`http://` and `https://` targets get the message as JSON by POST; any other URL ("slack://...",
"mailto://...") goes to Apprise, which the extra `notify` installs. A message recommends; nothing
here or elsewhere in the package acts on a position.
"""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from mlflow_timescale.db import Error

from .lifecycle import Alert
from .rules import SEVERITIES

TIMEOUT = 10.0
logger = logging.getLogger(__name__)


class NotificationFailed(Error):
    """A message could not be delivered; the next run tries again."""


@dataclass(frozen=True)
class Message:
    """The alerts of a strategy that opened or resolved in one run."""

    strategy_id: str
    session: date
    opened: tuple[Alert, ...]
    resolved: tuple[Alert, ...]

    @classmethod
    def of(cls, strategy_id: str, session: date, found: Sequence[Alert]) -> Message:
        """Sort alerts into opened (worst first) and resolved."""
        opened = [alert for alert in found if alert.state != "resolved"]
        opened.sort(key=lambda alert: -SEVERITIES.index(alert.severity))
        resolved = tuple(alert for alert in found if alert.state == "resolved")
        return cls(strategy_id, session, tuple(opened), resolved)

    @property
    def title(self) -> str:
        """One line, with the most severe alert first."""
        if not self.opened:
            return f"[resolved] {self.strategy_id} {self.session}: {_names(self.resolved)}"
        worst = self.opened[0].severity
        return f"[{worst}] {self.strategy_id} {self.session}: {_names(self.opened)}"

    @property
    def text(self) -> str:
        """The message for people, one line an alert."""
        return "\n".join(
            [_line(alert) for alert in self.opened]
            + [f"resolved on {a.resolved_session}: {a.rule}" for a in self.resolved]
        )

    def payload(self) -> dict[str, Any]:
        """The message for programs: plain JSON values."""
        return {
            "strategy_id": self.strategy_id,
            "session": self.session.isoformat(),
            "title": self.title,
            "text": self.text,
            "opened": [_fields(alert) for alert in self.opened],
            "resolved": [_fields(alert) for alert in self.resolved],
        }


Hook = Callable[[Message], None]


def send(message: Message, targets: Sequence[str], hook: Hook | None = None) -> None:
    """Deliver a message to every target, then to the hook. Raises NotificationFailed.

    The remaining targets are notified even if one fails.
    """
    failures = []
    for target in targets:
        try:
            (_post if target.startswith(("http://", "https://")) else _apprise)(target, message)
        except NotificationFailed as exc:
            failures.append(str(exc))
    if hook is not None:
        hook(message)
    if failures:
        raise NotificationFailed("; ".join(failures))


def _post(url: str, message: Message) -> None:
    request = urllib.request.Request(
        url,
        data=json.dumps(message.payload()).encode(),
        headers={"Content-Type": "application/json", "User-Agent": "mlflow-timescale"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT):  # nosec B310  # `send` lets only http and https through
            pass
    except (urllib.error.URLError, OSError) as exc:
        raise NotificationFailed(f"webhook at {_host(url)} failed: {exc}") from exc


def _apprise(url: str, message: Message) -> None:
    scheme = url.partition(":")[0]
    try:
        import apprise
    except ImportError as exc:
        raise NotificationFailed(
            f"{scheme}: targets are served by Apprise: pip install 'mlflow-timescale[notify]'"
        ) from exc
    service = apprise.Apprise()
    if not service.add(url):
        raise NotificationFailed(f"Apprise does not understand the {scheme}: target")
    kind = apprise.NotifyType.FAILURE if message.opened else apprise.NotifyType.SUCCESS
    if not service.notify(title=message.title, body=message.text, notify_type=kind):
        raise NotificationFailed(f"Apprise could not deliver to the {scheme}: target")


def _host(url: str) -> str:
    """The host of a webhook, for messages: its path is secret."""
    return url.partition("//")[2].partition("/")[0].rpartition("@")[2]


def _names(found: Sequence[Alert]) -> str:
    return ", ".join(alert.rule for alert in found)


def _line(alert: Alert) -> str:
    value = "" if alert.value is None else f" ({alert.metric} {alert.value:.4g})"
    note = f" {alert.note}." if alert.note else ""
    return (
        f"{alert.severity}: {alert.rule}{value} since {alert.session}.{note} {alert.action}".strip()
    )


def _fields(alert: Alert) -> dict[str, Any]:
    return {
        "alert_id": alert.alert_id,
        "rule": alert.rule,
        "severity": alert.severity,
        "state": alert.state,
        "session": alert.session.isoformat(),
        "metric": alert.metric,
        "value": alert.value,
        "note": alert.note,
        "recommendation": alert.action,
    }
