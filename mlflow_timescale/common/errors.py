"""Errors of the shared ground floor, which packages above it refine."""

from __future__ import annotations

from mlflow_timescale.db import Error


class InvalidFrame(Error, ValueError):
    """A frame of an unsupported kind, without a required column, or with unusable values."""


class InvalidTime(Error, ValueError):
    """A time that is naive, missing, finer than a microsecond or out of range; or no duration."""


class UnknownCalendar(Error, ValueError):
    """A trading calendar that does not exist, cannot be built, or does not reach a date."""


class NotASession(Error, ValueError):
    """A date on which the exchange does not trade, or one outside the calendar."""
