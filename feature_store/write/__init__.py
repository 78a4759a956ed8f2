"""From points to rows: availability rules, deduplication, COPY, one transaction a write.

Entry points: `writing` (one batch, or a stream of them) and `availability` (when a value becomes
known). The points come from `feature_store.values`.
"""

# The modules that other rooms may import.
__all__ = ["availability", "forward_returns", "midnights", "transaction", "writing"]
