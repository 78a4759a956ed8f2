"""Errors of the shared ground floor, which packages above it refine."""

from __future__ import annotations

from mlflow_timescale.db import Error


class InvalidFrame(Error, ValueError):
    """A frame of an unsupported kind, without a required column, or with unusable values."""


class InvalidTime(Error, ValueError):
    """A time that is naive, missing, finer than a microsecond or out of range; or no duration."""
