"""The questions of an incident: which version served, what did it see, since when is it wrong.

Every answer is a frozen data class with `to_dict()` and `lines()`; `questions` has the methods of
`DriftMonitor` that give them.
"""

# The modules that other rooms may import.
__all__ = [
    "chapters",
    "collecting",
    "explanation",
    "onset",
    "picture",
    "questions",
    "replay",
    "versions",
]
