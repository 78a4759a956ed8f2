"""A real PgBouncer in transaction mode, in front of the server of the tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mlflow_timescale.db import DatabaseURI
from mlflow_timescale.db.embedded import keywords

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
# Two server processes for all clients, so that a client's next transaction is often on the other.
SETTINGS = """
[databases]
* = host={host} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
server_round_robin = 1
logfile = {directory}/log
{more}
"""


@contextmanager
def pgbouncer(uri: DatabaseURI, more: str = "") -> Iterator[DatabaseURI]:
    """Start PgBouncer, with its own defaults and `more` settings; the URI of the database there."""
    assert PROGRAM
    server = {"port": 5432, "user": "postgres", **keywords(uri)}
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as probe:
        directory, listen = Path(name), probe.getsockname()[1]
        probe.close()
        directory.chmod(0o777)
        settings = directory / "pgbouncer.ini"
        settings.write_text(SETTINGS.format(**server, listen=listen, directory=name, more=more))
        # Like PostgreSQL, it does not run as root.
        command = ["runuser", "-u", "nobody", "--"] if os.geteuid() == 0 else []
        with (directory / "output").open("w") as output:
            process = subprocess.Popen(
                [*command, PROGRAM, str(settings)], stdout=output, stderr=output
            )
        try:
            through = replace(
                uri, host="127.0.0.1", port=str(listen), user="postgres", embedded=None, params=()
            )
            _wait(through, directory / "output")
            yield through
        finally:
            process.terminate()
            process.wait(10)


def _wait(uri: DatabaseURI, output: Path) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            return socket.create_connection((uri.host, int(uri.port)), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(output.read_text()) from None
        time.sleep(0.1)
