"""From inputs to the judged values of sessions.

Entry points: `pipeline` (compute and store), `session_values` and `series_values` (the values of
one session, and those that follow from the series), `history`, `reference_fit`,
`provisional` (the reference until one is accepted), `lateness` (inputs that are behind),
`served_version` (the champion when a session signalled).
"""

# The modules that other rooms may import.
__all__ = [
    "computed",
    "healthy_history",
    "history",
    "lateness",
    "pipeline",
    "provisional",
    "reference_fit",
    "served_version",
    "session_values",
]
