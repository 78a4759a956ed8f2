"""The check of `doctor` that looks at trading calendars."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from mlflow_timescale import db
from mlflow_timescale.common.calendar_ends import end_notice, has_ended
from mlflow_timescale.common.calendar_errors import longer
from mlflow_timescale.common.calendar_overrides import read_calendar
from mlflow_timescale.common.errors import UnknownCalendar, first_of
from mlflow_timescale.operations.findings import Finding, Level, Patient

_queries = db.load("calendars")
_SHOWN = 3


def calendars(patient: Patient) -> Iterator[Finding]:
    """Whether a calendar that strategies or feature views count by ends soon, or has ended."""
    if not patient.one(_queries.has_calendars):
        return
    rows = patient.rows(_queries.calendars_in_use)
    warned = False
    for row in rows:
        for finding in _finding(patient, row["calendar"], row["names"]):
            warned = True
            yield finding
    if rows and not warned:
        names = ", ".join(row["calendar"] for row in rows)
        yield Finding("calendars", "ok", f"none of those in use ends soon: {names}")


def _finding(patient: Patient, name: str, users: list[str]) -> Iterator[Finding]:
    now = _now()
    used = f"used by {first_of(users, _SHOWN)}"
    try:
        calendar = read_calendar(patient.conn, name)
    except UnknownCalendar as exc:
        yield Finding("calendars", "action", f"{exc}; {used}", "Choose another calendar.")
        return
    if notice := end_notice(calendar, now):
        data = {"calendar": name, "known_to": calendar.known_to, "used_by": users}
        level: Level = "action" if has_ended(calendar, now) else "note"
        found = f"{notice.partition(';')[0]}, and is {used}"
        yield Finding("calendars", level, found, longer(name), data)


def _now() -> datetime:
    return datetime.now(timezone.utc)
