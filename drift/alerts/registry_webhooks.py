"""Webhooks of MLflow's model registry as targets: what retrains a model can wait for one.

The judged version gets the tag `drift.retraining`, and each webhook for `model_version_tag.set` the
request that MLflow sends for a tag. MLflow itself sends it only for a tag that its server sets, and
once; here it has the delivery's id in every attempt.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from mlflow_timescale.db import Connection, DatabaseURI, load
from mlflow_timescale.db.rows import scalar

from .deliveries import Target
from .notify import Message, NotificationFailed
from .notify import reason as reason_of
from .retraining import causes

if TYPE_CHECKING:
    from mlflow.entities.webhook import Webhook

_queries = load("drift")
TAG = "drift.retraining"
TIMEOUT = 10.0


def targets(conn: Connection, uri: DatabaseURI) -> list[Target]:
    """The webhooks of the registry in this database that wait for tags of model versions."""
    if not scalar(conn, _queries.webhooks_exist):
        return []
    return [
        _target(uri, webhook_id, name) for webhook_id, name in conn.execute(_queries.tag_webhooks)
    ]


def concerns(message: Message) -> bool:
    """Whether a message is sent to webhooks: it has a retraining trigger, and names a version."""
    return bool(message.retraining and message.model and message.version)


def _target(uri: DatabaseURI, webhook_id: str, name: str) -> Target:
    def send(message: Message, delivery_id: str) -> None:
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri.url, registry_uri=uri.url)
        client.set_model_version_tag(message.model, message.version, TAG, _value(message))
        _post(client.get_webhook(webhook_id), message, delivery_id)

    return Target(f"MLflow webhook {name} ({webhook_id[:8]})", send)


def _value(message: Message) -> str:
    """The value of the tag: the causes and the session."""
    return f"{causes(message.retraining)} {message.session}"


def body(message: Message) -> dict[str, Any]:
    """The content of the request, as MLflow's server makes it for a tag."""
    return {
        "entity": "model_version_tag",
        "action": "set",
        "timestamp": datetime.now(timezone.utc).isoformat(),
        "data": {
            "name": message.model,
            "version": message.version,
            "key": TAG,
            "value": _value(message),
        },
    }


def headers(content: str, delivery_id: str, secret: str | None) -> dict[str, str]:
    """The headers of MLflow's webhooks: id, time, and the signature where there is a secret."""
    from mlflow.webhooks import constants

    stamp = str(int(time.time()))
    result = {
        "Content-Type": "application/json",
        constants.WEBHOOK_DELIVERY_ID_HEADER: delivery_id,
        constants.WEBHOOK_TIMESTAMP_HEADER: stamp,
    }
    if secret:
        signed = f"{delivery_id}.{stamp}.{content}".encode()
        digest = base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest())
        version = constants.WEBHOOK_SIGNATURE_VERSION
        result[constants.WEBHOOK_SIGNATURE_HEADER] = f"{version},{digest.decode()}"
    return result


def _post(webhook: Webhook, message: Message, delivery_id: str) -> None:
    import requests
    from mlflow.webhooks.ssrf import SSRFProtectedHTTPAdapter

    content = json.dumps(body(message))
    session = requests.Session()
    session.trust_env = False  # behind a proxy the adapter could not check the receiver's address
    for scheme in ("http://", "https://"):
        session.mount(scheme, SSRFProtectedHTTPAdapter())
    try:
        with session:
            answer = session.post(
                webhook.url,
                data=content.encode(),
                headers=headers(content, delivery_id, webhook.secret),
                timeout=TIMEOUT,
            )
    except (OSError, ValueError) as exc:  # without the error behind it, which may quote the URL
        raise NotificationFailed(f"MLflow webhook {webhook.name}: {reason_of(exc)}") from None
    if answer.status_code >= 400:
        raise NotificationFailed(f"MLflow webhook {webhook.name}: HTTP {answer.status_code}")
