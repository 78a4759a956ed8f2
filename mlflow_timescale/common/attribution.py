"""The user and reason recorded with a change, local or through a tracking server.

A client that reaches the database sets them in its session; one that reaches only a server
sends them in headers, which MLflow's client puts on each of its requests (entry point
`mlflow.request_header_provider`). Loaded by that client: nothing here may be slow to import.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from mlflow_timescale.common.settings import SEND_USER

SERVER_BACKEND = "_MLFLOW_SERVER_FILE_STORE"  # MLflow sets it in the processes of its server
REASON, USER, OVERRIDE = (f"X-Mlflow-Timescale-{name}" for name in ("Reason", "User", "Override"))
LONGEST_REASON = 2000  # bytes; three times that in a header, which proxies still let pass
_LONGEST_USER = 256


@dataclass(frozen=True)
class Attribution:
    """Who does something, why, and whether a failed check is overridden.

    Attributes
    ----------
    user
        The best name that is known: the authenticated one, or else the claimed one.
    authenticated
        Whom this server has authenticated; None outside of a server, and in one that lets all in.
    claimed
        Who the client claims to be: a header of its request, or the account of this process.
    """

    user: str | None = None
    reason: str = ""
    override: bool = False
    authenticated: str | None = field(default=None, compare=False)
    claimed: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class _Because:
    reason: str = ""
    override: bool = False


_NOTHING = _Because()
_because: ContextVar[_Because] = ContextVar("because", default=_NOTHING)
_upload: ContextVar[Any] = ContextVar("upload_request", default=None)


@contextmanager
def because(reason: str, *, override: bool = False) -> Iterator[None]:
    """Record why the registry is changed in this block, directly or through a tracking server.

    Parameters
    ----------
    reason
        At most 2,000 bytes of UTF-8; the history tables and the UI show it.
    override
        Allow a protected alias to point at a version whose artifacts do not verify; the history
        records that a check was overridden.

    Raises
    ------
    ValueError
        The reason is too long.

    Examples
    --------
    >>> with because("IC fell below 0.02 for ten days"):
    ...     pass  # client.set_registered_model_alias("momentum", "champion", "3")
    """
    if len(reason.encode()) > LONGEST_REASON:
        raise ValueError(
            f"a reason is at most {LONGEST_REASON} bytes long, this one {len(reason.encode())}: "
            f"{reason[:60]!r}...; say it shorter and link to the rest"
        )
    token = _because.set(_Because(reason, override))
    try:
        yield
    finally:
        _because.reset(token)


def who(db_user: str, authenticated: str | None = None, claimed: str | None = None) -> str:
    """A user as histories show it: what is known first, and what is only claimed marked as such.

    Parameters
    ----------
    db_user
        The login of the database.
    authenticated
        The user whom a server let in that has this login.
    claimed
        Who the client claims to be.

    Examples
    --------
    >>> who("alice"), who("alice", claimed="alice"), who("alice", claimed="the chief")
    ('alice', 'alice', 'alice (claims the chief)')
    >>> who("mlflow", "ann"), who("mlflow", "ann", "the chief")
    ('ann via mlflow', 'ann via mlflow (claims the chief)')
    """
    known = f"{authenticated} via {db_user}" if authenticated else db_user
    return (
        known if claimed in (None, "", authenticated or db_user) else f"{known} (claims {claimed})"
    )


def current() -> Attribution:
    """The user and reason of the current change; in a server, those of the request."""
    if os.environ.get(SERVER_BACKEND):
        return _of_request()
    now = _because.get()
    name = _own_name()
    return Attribution(name, now.reason, now.override, claimed=name)


def _own_name() -> str | None:
    try:
        return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return None


class RequestHeaders:
    """Headers of MLflow's requests: the user's name, and the reason inside of `because`."""

    def in_context(self) -> bool:
        """Whether there is something to say."""
        return bool(self.request_headers())

    def request_headers(self) -> dict[str, str]:
        """What is to be said, percent-encoded: a header holds ASCII only."""
        now = _because.get()
        said = {REASON: now.reason, OVERRIDE: "true" if now.override else ""}
        if SEND_USER.get():
            said[USER] = (_own_name() or "")[:_LONGEST_USER]
        return {name: quote(text, safe=" ") for name, text in said.items() if text}


def _of_request() -> Attribution:
    """The user whom the server has authenticated, and what the headers claim."""
    from flask import g, has_request_context, request

    if has_request_context():
        # MLflow sets it when it has checked the password. A server without authentication checks
        # none, so there the name in the header is a claim as any other.
        authenticated = getattr(g, "mlflow_authenticated_user", None)
        return _said(request.headers, authenticated, _basic_user(request))
    uploading = _upload.get()
    if uploading is None:
        return Attribution()
    return _said(uploading.headers, getattr(uploading.state, "username", None))


def _basic_user(request: Any) -> str | None:
    return request.authorization.username if request.authorization else None


def _said(headers: Any, authenticated: str | None, login: str | None = None) -> Attribution:
    def said(name: str, longest: int) -> str:
        text = unquote(headers.get(name, ""), errors="replace").replace("\x00", "")
        return text.encode()[:longest].decode(errors="ignore")

    claimed = (None if authenticated else login) or said(USER, _LONGEST_USER) or None
    return Attribution(
        authenticated or claimed,
        said(REASON, LONGEST_REASON),
        headers.get(OVERRIDE) == "true",
        authenticated,
        claimed,
    )


@contextmanager
def uploading(chunks: Any) -> Iterator[None]:
    """Let `current` see the request that a stream of chunks is the body of.

    MLflow's upload route, which runs outside of Flask, hands over `request.stream()` and nothing
    else of the request. Without it the ledger would not know who logged what through a server;
    remove this when MLflow passes the user.
    """
    frame = getattr(chunks, "ag_frame", None)
    request = frame.f_locals.get("self") if frame else None
    token = _upload.set(request if hasattr(request, "headers") else None)
    try:
        yield
    finally:
        _upload.reset(token)
