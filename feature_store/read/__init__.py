"""What was known at a time: training sets, single values, revisions, and reasons for gaps.

Entry points: `query` (one point-in-time question), `point_in_time` (its answer), `explain` and
`revisions`. `frontier` is the search itself, in numpy alone.
"""
