"""Short answers that the middleware gives itself."""

from __future__ import annotations

import json

from starlette.types import Send


async def refuse(send: Send, status: int, code: str, message: str) -> None:
    """Send an error in MLflow's form, and close the connection: its request was not read whole."""
    body = json.dumps({"error_code": code, "message": message}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
