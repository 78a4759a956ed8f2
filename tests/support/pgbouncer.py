"""A real PgBouncer in transaction mode, in front of the server of the tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mlflow_timescale.db import DatabaseURI
from mlflow_timescale.db.embedded import keywords
from support.servers import free_port, running, wait_for_port

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
    with tempfile.TemporaryDirectory() as name:
        directory, listen = Path(name), free_port()
        directory.chmod(0o777)
        settings = directory / "pgbouncer.ini"
        settings.write_text(SETTINGS.format(**server, listen=listen, directory=name, more=more))
        # It does not run as root, and only the server's own account may use its socket.
        socket = Path(str(server["host"]))
        account = socket.owner() if socket.is_absolute() else "nobody"
        command = ["runuser", "-u", account, "--"] if os.geteuid() == 0 else []
        command += [PROGRAM, str(settings)]
        with running(command, log_file=directory / "output") as process:
            wait_for_port(listen, process)
            yield replace(
                uri, host="127.0.0.1", port=str(listen), user="postgres", embedded=None, params=()
            )
