"""Requests of unknown length."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from mlflow_timescale.server.answers import refuse


class LengthRequired:
    """Answers 411 to a chunked request for Flask, which would take its body for empty.

    The bridge from ASGI to Flask passes the body on without its length; a request without a length
    has no body in WSGI. Without this class such a request succeeds and stores nothing. The routes
    that FastAPI serves itself read chunked bodies.

    Parameters
    ----------
    app
        The application behind.
    routes
        Its routes; those that are mounts lead to Flask.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self.app = app
        self._native = [route for route in routes if not isinstance(route, Mount)]
        self._has_flask = len(self._native) < len(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._has_flask and scope["type"] == "http" and self._is_lost(scope):
            await refuse(
                send,
                411,
                "INVALID_PARAMETER_VALUE",
                f"{scope['method']} {scope['path']} needs a Content-Length: this route does not "
                f"read a body with Transfer-Encoding: chunked",
            )
            return
        await self.app(scope, receive, send)

    def _is_lost(self, scope: Scope) -> bool:
        names = {name for name, _ in scope["headers"]}
        return b"transfer-encoding" in names and not any(
            route.matches(dict(scope))[0] is Match.FULL for route in self._native
        )
