"""Work in forked children."""

from __future__ import annotations

import os
import time
from collections.abc import Callable


def fork(work: Callable[[], object]) -> int:
    """Run something in a forked child; return its process id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:
        os._exit(3)
    os._exit(0)


def wait_for(child: int) -> int:
    """The exit code of a child; 9 if it did not end within 40 seconds."""
    for _ in range(400):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return 9
