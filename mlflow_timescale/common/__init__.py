"""The ground floor above the database: time, calendars, frames, settings, errors, git state.

Every room may stand on it; it imports nothing but `mlflow_timescale.db`. Each concept that two
packages need lives here once.
"""

# The modules that other rooms may import.
__all__ = [
    "attribution",
    "calendar_overrides",
    "calendars",
    "collection",
    "errors",
    "frames",
    "git",
    "logs",
    "micros",
    "output_files",
    "packages",
    "rows",
    "schemes",
    "settings",
    "text",
    "time",
]
