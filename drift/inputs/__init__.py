"""What the monitor records and reads: predictions, returns, features.

Entry points: `columns` (frames, checked), `recording` (these into the database),
`signals_and_returns` (of one session), `feature_values` (of one session, out of the feature store),
`feed_quality` (how complete they are), `champions` (of the registry), `sources` (of research).
"""

# The modules that other rooms may import.
__all__ = [
    "champions",
    "columns",
    "feature_values",
    "feed_quality",
    "recording",
    "signals_and_returns",
    "sources",
]
