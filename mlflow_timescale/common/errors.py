"""Errors of the shared ground floor, which packages above it refine."""

from __future__ import annotations

from mlflow_timescale.db import Error


class InvalidInput(Error):
    """Base of the errors that say what was wrong with a caller's input."""


class InvalidFrame(InvalidInput, ValueError):
    """A frame of an unsupported kind, without a required column, or with unusable values."""


class InvalidText(InvalidInput, ValueError):
    """A text that PostgreSQL cannot store: it holds NUL or a lone surrogate."""


class InvalidTime(InvalidInput, ValueError):
    """A time that is naive, missing, finer than a microsecond or out of range; or no duration."""


class UnknownCalendar(InvalidInput, ValueError):
    """A trading calendar that does not exist, cannot be built, or does not reach a date."""


class NotASession(InvalidInput, ValueError):
    """A date on which the exchange does not trade, or one outside the calendar."""
