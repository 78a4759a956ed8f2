"""`mlflow-timescale server`: `mlflow server` on our database."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import NoReturn

import click

from mlflow_timescale import db
from mlflow_timescale.cli import basic_auth
from mlflow_timescale.cli.kit import URIType, default_uri, print_message, require_server
from mlflow_timescale.db import embedded
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.plugin import IN_DATABASE_ROOT
from mlflow_timescale.server.launch import (
    BASIC_AUTH,
    UVICORN_OPTS,
    Application,
    application_names,
    is_wrapped,
    without_working_directory,
)

_BACKEND = "MLFLOW_BACKEND_STORE_URI"
_DESTINATION = "MLFLOW_ARTIFACTS_DESTINATION"


def _backend() -> DatabaseURI:
    value = os.environ.get(_BACKEND)
    return DatabaseURI.parse(value) if value else default_uri()


def _default_workers() -> int:
    return min(4, os.cpu_count() or 1)


def _installed(context: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    """The name of an application; a worker could not refuse it, it would be started again."""
    if name and name not in (names := application_names()):
        raise click.BadParameter(f"{name!r} is not installed; there are {', '.join(names)}")
    return name


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
    options_metavar="[OPTIONS] [OPTIONS OF MLFLOW SERVER]",
)
@click.option(
    "--uri",
    "--backend-store-uri",
    "uri",
    type=URIType(),
    default=_backend,
    show_default=f"{_BACKEND}, MLFLOW_TIMESCALE_URI, else the embedded database",
    help="Database URI, such as postgresql+timescaledb://user@host/database.",
)
@click.option(
    "-h",
    "--host",
    default="127.0.0.1",
    show_default=True,
    envvar="MLFLOW_HOST",
    help="Address on which the server listens.",
)
@click.option(
    "-p",
    "--port",
    default=5000,
    show_default=True,
    envvar="MLFLOW_PORT",
    help="Port on which the server listens.",
)
@click.option(
    "-w",
    "--workers",
    type=int,
    default=_default_workers,
    show_default="one per CPU, at most 4",
    envvar="MLFLOW_WORKERS",
    help="Worker processes.",
)
@click.option(
    "--app-name",
    metavar="NAME",
    callback=_installed,
    help="An application of MLflow, such as basic-auth.",
)
@click.option(
    "--uvicorn-opts",
    envvar=UVICORN_OPTS,
    default="",
    metavar="TEXT",
    help="Options of uvicorn.",
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="")
def server(
    uri: DatabaseURI,
    host: str,
    port: int,
    workers: int,
    app_name: str | None,
    uvicorn_opts: str,
    options: tuple[str, ...],
) -> None:
    """Run MLflow's tracking server and web interface.

    Options of `mlflow server` are passed on. Artifacts that clients upload are kept in the
    database, unless --artifacts-destination names another place. An embedded database stops with
    the server.
    """
    application = Application(app_name, uvicorn_opts, is_wrapped(options))
    run(uri, host=host, port=port, workers=workers, application=application, options=options)


def run(
    uri: DatabaseURI,
    *,
    host: str,
    port: int,
    workers: int,
    application: Application | None = None,
    options: Sequence[str] = (),
    page: str = "",
) -> NoReturn:
    """Become `mlflow server`, once the port is free and the database is ready."""
    application = application or Application(uvicorn_opts=os.environ.get(UVICORN_OPTS, ""))
    has_users = application.name == BASIC_AUTH
    if has_users:
        basic_auth.require_secret_key()
    check_port(host, port)
    print_message(f"Database {uri}", stderr=True)
    require_server(uri)
    db.connect(uri).close()  # starts an embedded server: its errors are one line here
    from mlflow_timescale.schema import prepare

    prepare(uri.url)
    if has_users:
        basic_auth.prepare_users()
    print_message(
        f"MLflow in a few seconds at {address(host, port)}{page} (Ctrl-C stops it)", stderr=True
    )
    where = ["--host", host, "--port", str(port), "--workers", str(workers)]
    if uri.embedded is not None:
        embedded.keep_across_exec(uri.embedded)
    command = [sys.executable, "-m", "mlflow", "server", *where, *application.arguments(), *options]
    variables = {**environment(uri, os.environ), **application.variables()}
    variables = without_working_directory(variables)
    os.execve(sys.executable, command, variables)  # nosec B606  # this Python, no shell


def environment(uri: DatabaseURI, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of `mlflow server`: unlike a command line it does not expose a password."""
    return {_DESTINATION: IN_DATABASE_ROOT, **inherited, _BACKEND: uri.url}


def check_port(host: str, port: int) -> None:
    """Raise ClickException for a port on which `mlflow server` could not listen."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            # As the server does: lingering connections of a previous server do not block the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise click.ClickException(
                f"port {port} on {host} is in use, perhaps by another MLflow: "
                f"choose another with --port"
            ) from exc
        raise click.ClickException(
            f"cannot listen on {host}:{port}: {exc.strerror or exc}"
        ) from exc


def address(host: str, port: int) -> str:
    """The URL of the web interface.

    >>> address("::1", 5000)
    'http://[::1]:5000'
    """
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
