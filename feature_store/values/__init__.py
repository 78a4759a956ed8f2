"""Values of features: numbers and structures, and the points that carry them.

The lowest room of the feature store: it knows frames and times, and of the database only how it
returns JSON.
"""

# The modules that other rooms may import.
__all__ = ["categories", "encoding", "names", "points", "stored"]
