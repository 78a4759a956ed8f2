"""Messages on alerts, and sending one to a URL: by webhook or through Apprise.

`http://` and `https://` URLs get the message as JSON by POST; any other URL ("slack://...",
"mailto://...") goes to Apprise, which the extra `notify` installs. A message recommends; nothing
here or elsewhere in the package acts on a position. `deliveries` decides when a message is sent.
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
from .retraining import RetrainingTrigger, triggers
from .rules import SEVERITIES

TIMEOUT = 10.0
logger = logs.logger(__name__)


class NotificationFailed(Error):
    """A message could not be delivered; the next run tries again."""


@dataclass(frozen=True)
class Message:
    """The alerts of a strategy that opened or resolved in one run, and the model it was judged by.

    `model` is its registered name and `version` its version; empty where the predictions name none.
    """

    strategy_id: str
    session: date
    opened: tuple[Alert, ...]
    resolved: tuple[Alert, ...]
    model: str = ""
    version: str = ""

    @classmethod
    def of(
        cls,
        strategy_id: str,
        session: date,
        alerts: Sequence[Alert],
        model: str = "",
        version: str = "",
    ) -> Message:
        """Sort alerts into opened (worst first) and resolved."""
        opened = [alert for alert in alerts if alert.state != "resolved"]
        opened.sort(key=lambda alert: -SEVERITIES.index(alert.severity))
        resolved = tuple(alert for alert in alerts if alert.state == "resolved")
        return cls(strategy_id, session, tuple(opened), resolved, model, version)

    @property
    def retraining(self) -> tuple[RetrainingTrigger, ...]:
        """The retraining triggers among the alerts that opened."""
        return triggers(self.opened)

    @property
    def severity(self) -> str:
        """That of the worst alert that opened; "resolved" if none did."""
        return self.opened[0].severity if self.opened else "resolved"

    @property
    def title(self) -> str:
        """One line, with the most severe alert first."""
        names = _names(self.opened or self.resolved)
        return printable(f"[{self.severity}] {self.strategy_id} {self.session}: {names}")

    @property
    def text(self) -> str:
        """The message for people, one line an alert, and one for each retraining trigger."""
        opened = [_line(alert) for alert in self.opened]
        resolved = [f"resolved on {a.resolved_session}: {a.rule}" for a in self.resolved]
        retraining = [f"retraining trigger: {trigger.text}" for trigger in self.retraining]
        return "\n".join(map(printable, [*opened, *resolved, *retraining]))

    def payload(self, delivery_id: str = "") -> dict[str, Any]:
        """The message for programs: plain JSON values.

        A delivery keeps its `delivery_id` in every attempt, so that a receiver can drop a repeat.
        """
        return {
            "delivery_id": delivery_id,
            "strategy_id": self.strategy_id,
            "session": self.session.isoformat(),
            "title": self.title,
            "text": self.text,
            "severity": self.severity,
            "model_name": self.model,
            "model_version": self.version,
            "retraining": [
                {"cause": t.cause, "rule": t.rule, "session": t.session.isoformat()}
                for t in self.retraining
            ],
            "opened": [_fields(alert) for alert in self.opened],
            "resolved": [_fields(alert) for alert in self.resolved],
        }


Hook = Callable[[Message], None]


def send(message: Message, urls: Sequence[str]) -> None:
    """Send a message to every URL, without an outbox. Raises NotificationFailed.

    The remaining URLs get it even if one fails.
    """
    failures = []
    for url in urls:
        try:
            send_to(url, message)
        except NotificationFailed as exc:
            failures.append(str(exc))
    if failures:
        raise NotificationFailed("; ".join(failures))


def send_to(url: str, message: Message, delivery_id: str = "") -> None:
    """Send a message to one URL. Raises NotificationFailed, whose text does not show the URL."""
    if is_webhook(url):
        _post(url, message, delivery_id)
    else:
        _apprise(url, message)


def is_webhook(url: str) -> bool:
    """Whether a URL gets JSON by POST."""
    return url.lower().startswith(("http://", "https://"))


def label(url: str) -> str:
    """What a URL is called in the outbox: its host or scheme, because all the rest may be secret.

    >>> label("https://hooks.example/services/token"), label("slack://token/channel")
    ('webhook at hooks.example', 'slack: target')
    """
    return f"webhook at {_host(url)}" if is_webhook(url) else f"{_scheme(url)} target"


def _post(url: str, message: Message, delivery_id: str) -> None:
    data = json.dumps(message.payload(delivery_id)).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "mlflow-timescale"}
    if delivery_id:
        headers["Idempotency-Key"] = delivery_id
    try:
        request = urllib.request.Request(url, data, headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT):  # nosec B310  # `send_to` lets only http and https through
            pass
    except (OSError, HTTPException, ValueError) as exc:
        # Without the error behind it, which may quote the URL.
        raise NotificationFailed(f"webhook at {_host(url)} failed: {reason(exc)}") from None


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


def reason(exc: Exception) -> str:
    """Why a request failed, without the texts of errors that quote the URL."""
    if isinstance(exc, urllib.error.HTTPError):
        return f"HTTP {exc.code} {responses.get(exc.code, '')}".strip()
    cause = exc.reason if isinstance(exc, urllib.error.URLError) else exc
    if isinstance(cause, OSError):
        return cause.strerror or ("timed out" if isinstance(cause, TimeoutError) else _kind(cause))
    return _kind(cause)


def _kind(cause: object) -> str:
    return "the URL is not valid" if isinstance(cause, str) else type(cause).__name__


def _names(alerts: Sequence[Alert]) -> str:
    return ", ".join(alert.rule for alert in alerts)


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
