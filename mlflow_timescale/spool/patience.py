"""Calls that may hang, with a time limit for the caller.

A stopped server, or a network that drops packets, does not answer, and no timeout of the driver
covers all such cases. The call runs in a thread, and the caller goes on after the limit. The thread
is not stopped: a late effect must be harmless, like a second arrival of a write with an id.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class TooSlow(Exception):
    """A call took longer than its caller waits."""


class Patience:
    """Runs calls in threads that are reused; a child of fork() starts new ones.

    Examples
    --------
    >>> Patience().wait(lambda: 42, seconds=5.0)
    42
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._idle: deque[_Worker] = deque()  # pop and append are atomic

    def wait(self, call: Callable[[], T], seconds: float) -> T:
        """The result of a call, or its exception. Raises TooSlow after the limit."""
        if self._process != os.getpid():
            self._process, self._idle = os.getpid(), deque()
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = _Worker()
        job = _Job(contextvars.copy_context(), call)
        worker.jobs.put(job)
        if not job.done.wait(seconds):
            worker.jobs.put(None)  # the thread ends after this call, if it ever returns
            raise TooSlow(f"no answer within {seconds:g} s")
        self._idle.append(worker)
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result


class _Job:
    """One call, with its result or exception."""

    def __init__(self, context: contextvars.Context, call: Callable[[], Any]) -> None:
        self._context, self._call = context, call
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self._context.run(self._call)
        except BaseException as exc:
            self.error = exc
        finally:
            self.done.set()


class _Worker:
    """A thread that runs one call after another; it does not keep the process alive."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()
        threading.Thread(target=self._run, name="patient call", daemon=True).start()

    def _run(self) -> None:
        while (job := self.jobs.get()) is not None:
            job.run()
            del job  # its result may be large
