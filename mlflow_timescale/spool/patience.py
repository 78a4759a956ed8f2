"""Calls that may hang, with a limit on how long the caller waits.

A server that is stopped, or a network that drops packets, answers nothing: no timeout of the driver
covers all of it. The call runs in a thread, and the caller goes on after the limit. The thread is
left alone: what it does later must be harmless, as a request is that is recorded once.
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
    """Runs calls in threads that are kept; in a child of fork() in new ones.

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
            worker.jobs.put(None)  # it ends after this call, if that ever returns
            raise TooSlow(f"no answer within {seconds:g} s")
        self._idle.append(worker)
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result


class _Job:
    """One call and what became of it."""

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
