"""Log lines: names and errors from outside can neither begin a line nor show a secret."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Number
from typing import TYPE_CHECKING, Any

from mlflow_timescale.common.text import one_line, printable
from mlflow_timescale.db.masking import without_secrets

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:  # generic at run time only since Python 3.11
    _Adapter = logging.LoggerAdapter


class LineLogger(_Adapter):
    r"""A logger whose arguments are printed with control characters escaped and without secrets.

    Examples
    --------
    >>> log = logger("mlflow_timescale.example")
    >>> log.warning("no file %s", "a\n2024-01-12 CRITICAL b")  # no file a\n2024-01-12 CRITICAL b
    """

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a message; its format is ours, and its arguments may come from anywhere."""
        if self.isEnabledFor(level):
            kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
            super().log(level, msg, *map(_plain, args), **kwargs)


def logger(name: str) -> LineLogger:
    """The logger of a module."""
    return LineLogger(logging.getLogger(name), {})


def _plain(value: object) -> object:
    return value if isinstance(value, Number) else printable(without_secrets(str(value)))


class _Notes(logging.Handler):
    """Calls a function with each message."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self.note = note

    def emit(self, record: logging.LogRecord) -> None:
        self.note(one_line(record.getMessage()))


@contextmanager
def noted(name: str, note: Callable[[str], None]) -> Iterator[None]:
    """Call a function with what a logger warns of, at any level, in place of its own handlers."""
    logger, handler = logging.getLogger(name), _Notes(note)
    before, level = logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.propagate = before
        logger.setLevel(level)
        logger.removeHandler(handler)


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Suppress messages below warnings, for example MLflow's on a scratch database."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
