"""Event times that are dates: a daily value at the midnight before it was known looks ahead."""

from __future__ import annotations

import re
import warnings
from datetime import timedelta

import pyarrow as pa

from mlflow_timescale.common.micros import Micros, midnights
from mlflow_timescale.common.time import from_micros

from .availability import Availability, FixedLag

_DAY = timedelta(days=1)
_NAMED = re.compile(r"[A-Za-z][\w+/-]*")
_STACK = 5  # the caller of write_frame, through write_batches and frame_points


class MidnightEvents(UserWarning):
    """All event times of a write are midnights, and its values become known within the day."""


def warn_of_midnights(event: Micros, zone: str | None, rule: Availability | None) -> None:
    """Warn if all events are midnights in UTC or `zone`, and `rule` is a lag under one day.

    Parameters
    ----------
    event
        Microseconds since 1970 in UTC, one for each row of the frame, shape (rows,).
    zone
        The time zone of the column; None if it is not known.
    rule
        How ingest times are derived; None if they are given, or are the time of the write.

    Examples
    --------
    >>> import numpy as np
    >>> dates = np.array([0, 86_400_000_000])
    >>> with warnings.catch_warnings(record=True, action="always") as caught:
    ...     warn_of_midnights(dates, "UTC", FixedLag(timedelta(hours=1)))
    >>> caught[0].category.__name__
    'MidnightEvents'
    """
    if not isinstance(rule, FixedLag) or rule.lag >= _DAY or len(event) < 2:
        return
    if _are_midnights(event, zone):
        warnings.warn(
            f"all event times are midnights, such as {from_micros(event[0]).isoformat()}, and the "
            f"values count as known {rule.lag} later: a daily value is known at the close of its "
            f"day, so training sets would look ahead. Give the time of the close, such as "
            f"(dates + pd.Timedelta(hours=16)).dt.tz_localize('America/New_York'), or "
            f"availability_lag='XNYS next close'",
            MidnightEvents,
            stacklevel=_STACK,
        )


def _are_midnights(event: Micros, zone: str | None) -> bool:
    if midnights(event, "UTC").all():
        return True
    if zone is None or not _NAMED.fullmatch(zone):
        return False
    try:
        return bool(midnights(event, zone).all())
    except pa.ArrowInvalid:  # an offset under a name of its library
        return False
