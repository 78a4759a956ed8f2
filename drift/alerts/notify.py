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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from http.client import HTTPException, responses
from typing import Any
from urllib.parse import urlsplit

from mlflow_timescale.common import logs
from mlflow_timescale.common.text import printable
from mlflow_timescale.db import Error

from .lifecycle import Alert
from .rules import SEVERITIES

TIMEOUT = 10.0
logger = logs.logger(__name__)


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
        worst, alerts = "resolved", self.resolved
        if self.opened:
            worst, alerts = self.opened[0].severity, self.opened
        return printable(f"[{worst}] {self.strategy_id} {self.session}: {_names(alerts)}")

    @property
    def text(self) -> str:
        """The message for people, one line an alert."""
        opened = [_line(alert) for alert in self.opened]
        resolved = [f"resolved on {a.resolved_session}: {a.rule}" for a in self.resolved]
        return "\n".join(map(printable, [*opened, *resolved]))

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
            is_webhook = target.lower().startswith(("http://", "https://"))
            (_post if is_webhook else _apprise)(target, message)
        except NotificationFailed as exc:
            failures.append(str(exc))
    if hook is not None:
        hook(message)
    if failures:
        raise NotificationFailed("; ".join(failures))


def _post(url: str, message: Message) -> None:
    data = json.dumps(message.payload()).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "mlflow-timescale"}
    try:
        request = urllib.request.Request(url, data, headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT):  # nosec B310  # `send` lets only http and https through
            pass
    except (OSError, HTTPException, ValueError) as exc:
        # Without the error behind it, which may quote the URL.
        raise NotificationFailed(f"webhook at {_host(url)} failed: {_reason(exc)}") from None


def _apprise(url: str, message: Message) -> None:
    scheme = _scheme(url)
    try:
        import apprise
    except ImportError as exc:
        raise NotificationFailed(
            f"{scheme} targets are served by Apprise: pip install 'mlflow-timescale[notify]'"
        ) from exc
    service = apprise.Apprise()
    with _silent("apprise"):  # it logs a URL that it does not understand
        if not service.add(url):
            raise NotificationFailed(f"Apprise does not understand the {scheme} target")
        kind = apprise.NotifyType.FAILURE if message.opened else apprise.NotifyType.SUCCESS
        if not service.notify(title=message.title, body=message.text, notify_type=kind):
            raise NotificationFailed(f"Apprise could not deliver to the {scheme} target")


@contextmanager
def _silent(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _scheme(url: str) -> str:
    """The scheme of a target, for messages: all the rest may be secret.

    >>> _scheme("slack://token/channel"), _scheme("hooks.example/services/token")
    ('slack:', 'schemeless')
    """
    scheme, separator, _ = url.partition("://")
    return f"{scheme}:" if separator and scheme.isalnum() else "schemeless"


def _host(url: str) -> str:
    """The host of a webhook, for messages: its path is secret.

    >>> _host("https://ann:pa/ss@hooks.example:8443/services/token")
    'the target'
    >>> _host("https://ann:s3cret@hooks.example:8443?token=t0p")
    'hooks.example:8443'
    """
    try:
        parts = urlsplit(url)
        # Raises ValueError where a password that is not encoded ends the host too early.
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "the target"
    return printable(f"{parts.hostname or 'the target'}{port}")


def _reason(exc: Exception) -> str:
    """Why a request failed, without the texts of errors that quote the URL."""
    if isinstance(exc, urllib.error.HTTPError):
        return f"HTTP {exc.code} {responses.get(exc.code, '')}".strip()
    cause = exc.reason if isinstance(exc, urllib.error.URLError) else exc
    if isinstance(cause, OSError):
        return cause.strerror or ("timed out" if isinstance(cause, TimeoutError) else _kind(cause))
    return _kind(cause)


def _kind(cause: object) -> str:
    return "the URL is not valid" if isinstance(cause, str) else type(cause).__name__


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
