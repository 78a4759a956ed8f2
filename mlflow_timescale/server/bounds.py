"""A bound for the end of a worker."""

from __future__ import annotations

import logging
import os
import threading

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_THREADS = 3.0  # seconds; with the six of `launch` the sum stays below Docker's ten
_logger = logging.getLogger(__name__)


class BoundedExit:
    """Ends the process if its threads do not end after the server has shut down.

    Python waits at its exit for every thread of an executor. A thread that waits for a lock of the
    database would keep the process alive. The database rolls back what such a thread has begun.
    """

    def __init__(self, app: ASGIApp, seconds: float = _THREADS) -> None:
        self.app, self.seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return

        async def receive_and_watch() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                self._end_later()
            return message

        await self.app(scope, receive_and_watch, send)

    def _end_later(self) -> None:
        timer = threading.Timer(self.seconds, self._end)
        timer.daemon = True
        timer.start()

    def _end(self) -> None:
        _logger.error(
            "Threads are still at work %.0f s after the end of the server: the process ends now",
            self.seconds,
        )
        logging.shutdown()
        os._exit(1)
