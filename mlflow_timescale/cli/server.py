"""`mlflow-timescale server`: `mlflow server` on a database of ours."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import zip_longest
from typing import NoReturn
from urllib.parse import urlsplit

import click
from rich.console import Console

from mlflow_timescale import db
from mlflow_timescale.cli.options import URIType, default_uri
from mlflow_timescale.db import embedded
from mlflow_timescale.db.uri import DatabaseURI
from mlflow_timescale.plugin import IN_DATABASE_ROOT

_BACKEND = "MLFLOW_BACKEND_STORE_URI"
_DESTINATION = "MLFLOW_ARTIFACTS_DESTINATION"
# `mlflow server` takes these from the command line, where everybody on the machine can read them.
_SECRET = ("--registry-store-uri", "--read-replica-backend-store-uri", "--workspace-store-uri")


def _backend() -> DatabaseURI:
    given = os.environ.get(_BACKEND)
    return DatabaseURI.parse(given) if given else default_uri()


def _default_workers() -> int:
    return min(4, os.cpu_count() or 1)


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
    help="The database: postgresql+timescaledb://user:password@host:5432/database.",
)
@click.option("-h", "--host", default="127.0.0.1", show_default=True, envvar="MLFLOW_HOST")
@click.option("-p", "--port", default=5000, show_default=True, envvar="MLFLOW_PORT")
@click.option(
    "-w",
    "--workers",
    type=int,
    default=_default_workers,
    show_default="one per CPU, at most 4",
    envvar="MLFLOW_WORKERS",
    help="Worker processes.",
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="")
def server(uri: DatabaseURI, host: str, port: int, workers: int, options: tuple[str, ...]) -> None:
    """Run MLflow's tracking server and web interface.

    Every option of `mlflow server` may be given, and is handed on. Artifacts that clients upload
    are kept in the database, unless told otherwise; an embedded one stops with the server.
    """
    run(uri, host=host, port=port, workers=workers, options=options)


def run(
    uri: DatabaseURI,
    *,
    host: str,
    port: int,
    workers: int,
    options: Sequence[str] = (),
    page: str = "",
) -> NoReturn:
    """Become `mlflow server`, once the port is free and the database is ready."""
    _refuse_passwords(options)
    check_port(host, port)
    console = Console(stderr=True, highlight=False)
    console.print(f"Database {uri}", soft_wrap=True)
    db.connect(uri).close()  # one line now, rather than MLflow's minutes of retries
    from mlflow_timescale.schema import prepare

    prepare(uri.url)
    console.print(
        f"MLflow in a few seconds at {address(host, port)}{page} (Ctrl-C stops it)", soft_wrap=True
    )
    where = ["--host", host, "--port", str(port), "--workers", str(workers)]
    if uri.embedded is not None:
        embedded.keep_across_exec(uri.embedded)
    command = [sys.executable, "-m", "mlflow", "server", *where, *options]
    os.execve(sys.executable, command, environment(uri, os.environ))


def environment(uri: DatabaseURI, inherited: Mapping[str, str]) -> dict[str, str]:
    """What `mlflow server` is told by variables: a command line shows its password to everybody."""
    return {_DESTINATION: IN_DATABASE_ROOT, **inherited, _BACKEND: uri.url}


def check_port(host: str, port: int) -> None:
    """Refuse, in words, a port on which `mlflow server` could not listen."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            # As the server does: connections of a former one that linger do not count.
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


def _refuse_passwords(options: Sequence[str]) -> None:
    for option, following in zip_longest(options, options[1:], fillvalue=""):
        name, _, value = option.partition("=")
        if name in _SECRET and urlsplit(value or following).password:
            raise click.UsageError(
                f"a password in {name} would show in the list of processes: "
                f"put the URI into {'MLFLOW_' + name[2:].replace('-', '_').upper()} instead"
            )


def address(host: str, port: int) -> str:
    """Where the web interface is.

    >>> address("::1", 5000)
    'http://[::1]:5000'
    """
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
