"""How `mlflow server` is made to run our application."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

NAME = "timescale"  # of our entry point in the group `mlflow.app`
# Names the application that ours is wrapped around: `mlflow server` takes one name only.
WRAPPED = "_MLFLOW_TIMESCALE_WRAPPED_APP"
BASIC_AUTH = "basic-auth"
UVICORN_OPTS = "MLFLOW_UVICORN_OPTS"
_GRACE_OPTION, _GRACE = "--timeout-graceful-shutdown", 6  # seconds; see `bounds`
_APP_DIR = "--app-dir"
_OTHER_SERVERS = {"--dev", "--gunicorn-opts", "--waitress-opts"}
_GUNICORN_OPTS = "MLFLOW_GUNICORN_OPTS"
_JOBS_TOKEN = "_MLFLOW_INTERNAL_GATEWAY_AUTH_TOKEN"  # nosec B105  # the name of a variable
_HAS_ADMIN = "_MLFLOW_AUTH_ADMIN_BOOTSTRAPPED"


@dataclass(frozen=True)
class Application:
    """The application of a server, and how uvicorn runs it.

    Parameters
    ----------
    name
        An application of MLflow, such as `basic-auth`; by default its tracking server.
    uvicorn_opts
        Options of uvicorn.
    is_wrapped
        Whether our middleware is around it.

    Examples
    --------
    >>> Application("basic-auth").arguments()
    ['--app-name', 'timescale']
    >>> Application(uvicorn_opts="--backlog 9").variables()
    {'MLFLOW_UVICORN_OPTS': '--backlog 9 --timeout-graceful-shutdown 6'}
    """

    name: str | None = None
    uvicorn_opts: str = ""
    is_wrapped: bool = True

    def arguments(self) -> list[str]:
        """Options of `mlflow server`."""
        name = NAME if self.is_wrapped else self.name
        return ["--app-name", name] if name else []

    def variables(self) -> dict[str, str]:
        """The environment of `mlflow server`."""
        if not self.is_wrapped:
            return {UVICORN_OPTS: self.uvicorn_opts} if self.uvicorn_opts else {}
        variables = {UVICORN_OPTS: _with_grace(self.uvicorn_opts)}
        if self.name and self.name != NAME:
            variables[WRAPPED] = self.name
        if self.name == BASIC_AUTH:
            # `mlflow server` sets both only where it knows the application by its name. With the
            # token MLflow's jobs may call the server's gateway; the command creates the users.
            variables[_JOBS_TOKEN] = secrets.token_hex(32)
            variables[_HAS_ADMIN] = "true"
        return variables


def _with_grace(uvicorn_opts: str) -> str:
    if _GRACE_OPTION in uvicorn_opts:
        return uvicorn_opts
    return f"{uvicorn_opts} {_GRACE_OPTION} {_GRACE}".strip()


def without_working_directory(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables with which neither Python nor uvicorn imports from the working directory.

    A server of root's that is started in /tmp, or in a folder of another account, would run a
    `click.py` that lies there. Python before 3.11 does not know PYTHONSAFEPATH; uvicorn adds the
    working directory unless --app-dir names another one, which need not exist.

    >>> without_working_directory({"MLFLOW_UVICORN_OPTS": "--app-dir /srv/app"})
    {'MLFLOW_UVICORN_OPTS': '--app-dir /srv/app', 'PYTHONSAFEPATH': '1'}
    """
    safe = {**variables, "PYTHONSAFEPATH": "1"}
    options = variables.get(UVICORN_OPTS)
    if options is not None and _APP_DIR not in options:
        nothing = shlex.quote(str(Path(__file__).with_name("no-modules")))
        safe[UVICORN_OPTS] = f"{options} {_APP_DIR} {nothing}".strip()
    return safe


def application_names() -> list[str]:
    """The applications that installed packages offer to `mlflow server`.

    >>> {"basic-auth", "timescale"} <= set(application_names())
    True
    """
    return sorted(entry_points(group="mlflow.app").names)


def is_wrapped(options: Sequence[str]) -> bool:
    """Whether our application runs with these options of `mlflow server`: only under uvicorn.

    >>> is_wrapped(["--static-prefix", "/mlflow"]), is_wrapped(["--gunicorn-opts=-t 9"])
    (True, False)
    """
    names = {option.partition("=")[0] for option in options}
    return not names & _OTHER_SERVERS and not os.environ.get(_GUNICORN_OPTS)
