"""The ground floor above the database: time, calendars, frames, settings, errors, git state.

Every room may stand on it; it imports nothing but `mlflow_timescale.db`. Each concept that two
packages need lives here once.
"""

# The modules that other rooms may import.
__all__ = [
    "attribution",
    "calendar_ends",
    "calendar_errors",
    "calendar_overrides",
    "calendars",
    "collection",
    "errors",
    "frames",
    "git",
    "imported_sessions",
    "logs",
    "micros",
    "output_files",
    "packages",
    "rows",
    "schedules",
    "schemes",
    "settings",
    "text",
    "time",
]
