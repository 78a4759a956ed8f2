"""What was known at a time: training sets, single values, revisions, and reasons for gaps.

Entry points: `query` (one point-in-time question), `point_in_time` (its answer), `explain` and
`revisions`. `frontier` is the search itself, in numpy alone.
"""

# The modules that other rooms may import.
__all__ = [
    "ages",
    "cells",
    "changes",
    "explain",
    "frontier",
    "membership",
    "plans",
    "point_in_time",
    "query",
    "revisions",
    "spine",
    "watermarks",
]
