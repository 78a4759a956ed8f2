"""Who and why, on their way from a client to the database through a tracking server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flask import Flask, g
from mlflow.tracking.request_header.registry import resolve_request_headers
from starlette.requests import Request

from mlflow_timescale.common import attribution
from mlflow_timescale.common.attribution import Attribution, because

REASON = "Sharpe < 0,3 \u2014 \u7b56\u7565\u5931\u6548\r\nX-Admin: yes"


@pytest.fixture
def in_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(attribution.SERVER_BACKEND, "postgresql+timescaledb:///x")


@pytest.fixture(autouse=True)
def _ann(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")


def headers(**said: Any) -> dict[str, str]:
    with because(**said):
        return {
            name: value for name, value in resolve_request_headers().items() if "Timescale" in name
        }


def test_headers_are_plain_ascii_whatever_the_reason_holds() -> None:
    sent = headers(reason=REASON, override=True)
    assert set(sent) == {attribution.REASON, attribution.USER, attribution.OVERRIDE}
    assert all(value.isascii() and value.isprintable() for value in sent.values())


def test_what_was_sent_is_what_arrives(in_server: None) -> None:
    with Flask("server").test_request_context(headers=headers(reason=REASON, override=True)):
        assert attribution.current() == Attribution("ann", REASON, True)


def test_outside_of_because_only_the_user_is_sent_and_not_even_that_if_it_is_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with because("over"):
        pass
    assert set(headers(reason="")) == {attribution.USER}
    monkeypatch.setenv(attribution.SEND_USER.name, "false")
    assert headers(reason="") == {}
    assert not attribution.RequestHeaders().in_context()


def test_a_reason_that_no_proxy_would_let_pass_is_refused_at_once() -> None:
    longest = "\u7b56" * (attribution.LONGEST_REASON // 3)
    assert len(headers(reason=longest)[attribution.REASON]) < 8000
    with pytest.raises(ValueError, match="at most 2000 bytes"), because(longest + "xyz"):
        pass


def test_a_foreign_client_cannot_send_more_than_ours_or_what_no_text_can_hold(
    in_server: None,
) -> None:
    sent = {attribution.REASON: "%ff%00" + "a" * 5000, attribution.USER: "b" * 5000}
    with Flask("server").test_request_context(headers=sent):
        now = attribution.current()
    assert len(now.reason.encode()) <= attribution.LONGEST_REASON
    assert "\x00" not in now.reason
    assert now.user == "b" * 256


def test_whom_the_server_has_authenticated_is_believed_and_not_the_header(in_server: None) -> None:
    app, sent = Flask("server"), headers(reason="promoted")
    with app.test_request_context(headers=sent, auth=("bob", "secret")):
        assert attribution.current().user == "bob"
    with app.test_request_context(headers=sent):
        g.mlflow_authenticated_user = "carol"
        assert attribution.current() == Attribution("carol", "promoted")


def test_an_upload_outside_of_flask_says_who_sends_it(in_server: None) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"weights"}

    sent = [
        (name.lower().encode(), value.encode()) for name, value in headers(reason="new").items()
    ]
    request = Request({"type": "http", "headers": sent}, receive)

    async def upload() -> tuple[Attribution, bytes]:
        chunks = request.stream()
        with attribution.uploading(chunks):
            said = await asyncio.to_thread(attribution.current)
        return said, b"".join([chunk async for chunk in chunks])

    assert asyncio.run(upload()) == (Attribution("ann", "new"), b"weights")
    request.state.username = "bob"
    with attribution.uploading(request.stream()):
        assert attribution.current().user == "bob"
    with attribution.uploading(iter([b"no request"])):
        assert attribution.current() == Attribution()


def test_in_a_server_without_a_request_nobody_asks(in_server: None) -> None:
    with because("a reason of the server's own"):
        assert attribution.current() == Attribution()
