"""Clients that stop in the middle of a request or of its answer."""

from __future__ import annotations

from typing import NoReturn

import anyio
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlflow_timescale.common import logs
from mlflow_timescale.common.text import printable
from mlflow_timescale.server.answers import refuse

_logger = logs.logger(__name__)


class WholeRequests:
    """Ends a request whose client hangs up, sends no more of its body, or takes no answer.

    uvicorn waits for a silent client without limit, and so do the resources of its request: a file,
    a thread, the end of the process. A slow client is not silent: each piece begins a new wait. A
    handler never runs on half a body: MLflow's bridge to Flask takes the end of the connection for
    the end of the body.

    Parameters
    ----------
    app
        The application behind.
    seconds
        The longest wait for one piece; 0 waits without limit.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app, self.seconds = app, seconds or float("inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _Request(scope, receive, send, self.seconds).run(self.app)
        else:
            await self.app(scope, receive, send)


class _Request:
    """One request, and the state of its client."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, seconds: float) -> None:
        self._scope, self._receive, self._send, self._seconds = scope, receive, send, seconds
        self._is_whole, self._is_answered = not _has_body(scope), False
        self._is_gone, self._is_silent = False, False

    async def run(self, app: ASGIApp) -> None:
        try:
            await app(self._scope, self.receive, self.send)
        except Exception:
            if not self._is_gone:
                raise
        if not self._is_silent:
            return
        # The path is decoded: it may hold the end of a line.
        path = printable(self._scope["path"])
        message = f"{self._scope['method']} {path}: the client was silent for {self._seconds:g} s"
        _logger.warning("%s", message)
        if not self._is_answered:
            await refuse(self._send, 408, "REQUEST_TIMEOUT", message)

    async def receive(self) -> Message:
        """The next piece of the body, then the end of the connection.

        Raises ClientDisconnect if the client is silent or hangs up before its body is whole.
        """
        if self._is_whole:
            return await self._receive()
        with anyio.move_on_after(self._seconds) as limit:
            message = await self._receive()
        if limit.cancelled_caught:
            self._give_up(silent=True)
        if message["type"] == "http.disconnect":
            self._give_up()
        self._is_whole = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send a piece of the answer. Raises ClientDisconnect if the client does not take it."""
        if self._is_gone:  # the answer would be to half a request
            raise ClientDisconnect
        self._is_answered = True
        with anyio.move_on_after(self._seconds) as limit:
            await self._send(message)
        if limit.cancelled_caught:
            self._give_up(silent=True)

    def _give_up(self, silent: bool = False) -> NoReturn:
        self._is_gone, self._is_silent = True, silent
        raise ClientDisconnect


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
