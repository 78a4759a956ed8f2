"""The middleware of the server, around small applications."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from mlflow_timescale.server.bodies import LengthRequired
from mlflow_timescale.server.launch import Application
from mlflow_timescale.server.prefix import ArtifactsUnderPrefix
from mlflow_timescale.server.silence import WholeRequests

Message = dict[str, Any]
HANG_UP: Message = {"type": "http.disconnect"}


def piece(body: bytes, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


WITH_BODY = [(b"content-length", b"8")]


def request(
    app: Callable[..., Awaitable[None]],
    path: str = "/",
    method: str = "PUT",
    *,
    headers: Iterable[tuple[bytes, bytes]] = (),
    messages: Iterable[Message] = (piece(b"", more=False),),
    takes_answer: bool = True,
) -> list[Message]:
    """The messages that an application sends. A client without further messages is silent."""
    sent: list[Message] = []
    waiting = list(messages)

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message: Message) -> None:
        if not takes_answer and message["type"] == "http.response.body":
            await asyncio.Event().wait()
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "headers": list(headers),
        "query_string": b"",
    }
    asyncio.run(app(scope, receive, send))
    return sent


async def echo_path(scope: Message, receive: object, send: Callable[..., Awaitable[None]]) -> None:
    await PlainTextResponse(f"{scope['path']} {scope['raw_path'].decode()}")(scope, receive, send)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "path", "arrives"),
    [
        ("PUT", "/mlflow/api/2.0/mlflow-artifacts/artifacts/1/a.bin", True),
        ("GET", "/mlflow/ajax-api/2.0/mlflow-artifacts/artifacts/1/a.bin", True),
        ("GET", "/mlflow/api/2.0/mlflow-artifacts/artifacts", False),
        ("GET", "/mlflow/api/2.0/mlflow-artifacts/artifacts/", False),
        ("DELETE", "/mlflow/api/2.0/mlflow-artifacts/artifacts/1/a.bin", False),
        ("POST", "/mlflow/api/2.0/mlflow-artifacts/mpu/create/1/a.bin", False),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/1/a.bin", False),
        ("PUT", "/other/api/2.0/mlflow-artifacts/artifacts/1/a.bin", False),
    ],
)
def test_only_uploads_and_downloads_lose_the_prefix(method: str, path: str, arrives: bool) -> None:
    sent = request(ArtifactsUnderPrefix(echo_path, "/mlflow"), path, method)
    expected = path.removeprefix("/mlflow") if arrives else path
    assert sent[1]["body"].decode() == f"{expected} {expected}"


def test_without_a_prefix_no_path_changes() -> None:
    path = "/api/2.0/mlflow-artifacts/artifacts/1/a.bin"
    assert request(ArtifactsUnderPrefix(echo_path, ""), path)[1]["body"].startswith(path.encode())


async def read(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


SITE = Starlette(
    routes=[Route("/native", read, methods=["PUT"]), Mount("/", app=PlainTextResponse("flask"))]
)
CHUNKED = [(b"transfer-encoding", b"chunked")]


@pytest.mark.parametrize(
    ("path", "method", "headers", "status"),
    [
        ("/native", "PUT", CHUNKED, 200),
        ("/native", "POST", CHUNKED, 411),
        ("/flask", "PUT", CHUNKED, 411),
        ("/flask", "PUT", [(b"content-length", b"0")], 200),
        ("/flask", "GET", [], 200),
    ],
)
def test_flask_gets_no_chunked_body(
    path: str, method: str, headers: list[tuple[bytes, bytes]], status: int
) -> None:
    app = LengthRequired(SITE, SITE.routes)
    start, body = request(app, path, method, headers=headers)
    assert start["status"] == status
    if status == 411:
        assert "Content-Length" in json.loads(body["body"])["message"]


def test_an_application_without_flask_reads_chunked_bodies() -> None:
    site = Starlette(routes=[Route("/native", read, methods=["PUT"])])
    app = LengthRequired(site, site.routes)
    assert request(app, "/other", headers=CHUNKED)[0]["status"] == 404


class Handler:
    """An application that notes whether it was run on a whole body, as the bridge to Flask does."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(body)
        await PlainTextResponse("done")(scope, receive, send)


def test_a_silent_client_is_answered_408() -> None:
    handler = Handler()
    start, body = request(
        WholeRequests(handler, 0.02), headers=WITH_BODY, messages=[piece(b"half")]
    )
    assert (start["status"], handler.bodies) == (408, [])
    assert (b"connection", b"close") in start["headers"]
    assert "silent for 0.02 s" in json.loads(body["body"])["message"]


def test_a_handler_does_not_run_on_half_a_body() -> None:
    handler = Handler()
    messages = [piece(b"half"), HANG_UP]
    assert request(WholeRequests(handler, 60), headers=WITH_BODY, messages=messages) == []
    assert handler.bodies == []


def test_a_whole_body_arrives() -> None:
    handler = Handler()
    messages = [piece(b"a"), piece(b"b"), piece(b"c", more=False)]
    sent = request(WholeRequests(handler, 60), headers=CHUNKED, messages=messages)
    assert sent[0]["status"] == 200
    assert handler.bodies == [b"abc"]


def test_a_client_may_wait_for_its_answer() -> None:
    async def slow(scope: Message, receive: Any, send: Any) -> None:
        await receive()
        waiting = asyncio.create_task(receive())  # as Starlette waits for the end of the connection
        await asyncio.sleep(0.1)
        waiting.cancel()
        await PlainTextResponse("done")(scope, receive, send)

    assert request(WholeRequests(slow, 0.02))[0]["status"] == 200


def test_a_request_without_a_body_sees_the_end_of_its_connection() -> None:
    async def watches(scope: Message, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.disconnect"
        await PlainTextResponse("done")(scope, receive, send)

    assert request(WholeRequests(watches, 60), messages=[HANG_UP])[0]["status"] == 200


def test_an_answer_that_is_not_taken_ends() -> None:
    sent = request(WholeRequests(Handler(), 0.02), takes_answer=False)
    assert [message["type"] for message in sent] == ["http.response.start"]


def test_without_a_limit_a_client_may_be_silent() -> None:
    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(asyncio.wait_for(silent_for_ever(), 0.2))


async def silent_for_ever() -> None:
    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    scope = {"type": "http", "headers": WITH_BODY}
    await WholeRequests(Handler(), 0)(scope, receive, print)


def test_errors_of_the_application_are_raised() -> None:
    async def fails(scope: Message, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        request(WholeRequests(fails, 60))


def test_a_thread_that_does_not_end_does_not_keep_the_process() -> None:
    program = """
import asyncio, threading
from mlflow_timescale.server.bounds import BoundedExit

async def app(scope, receive, send):
    await receive()

async def receive():
    return {"type": "lifespan.shutdown"}

asyncio.run(BoundedExit(app, 0.1)({"type": "lifespan"}, receive, None))
threading.Thread(target=threading.Event().wait).start()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr.count(b"Threads are still at work")) == (1, 1)


@pytest.mark.parametrize(
    ("application", "arguments", "options"),
    [
        (Application(), ["--app-name", "timescale"], "--timeout-graceful-shutdown 6"),
        (
            Application(uvicorn_opts="--timeout-graceful-shutdown=60"),
            ["--app-name", "timescale"],
            "--timeout-graceful-shutdown=60",
        ),
        (Application("basic-auth", is_wrapped=False), ["--app-name", "basic-auth"], None),
        (
            Application("basic-auth", "--backlog 9", False),
            ["--app-name", "basic-auth"],
            "--backlog 9",
        ),
    ],
)
def test_what_mlflow_server_is_given(
    application: Application, arguments: list[str], options: str | None
) -> None:
    assert application.arguments() == arguments
    assert application.variables().get("MLFLOW_UVICORN_OPTS") == options


def test_basic_auth_is_wrapped_and_gets_the_token_of_its_jobs() -> None:
    variables = Application("basic-auth").variables()
    assert variables["_MLFLOW_TIMESCALE_WRAPPED_APP"] == "basic-auth"
    assert len(variables["_MLFLOW_INTERNAL_GATEWAY_AUTH_TOKEN"]) == 64
