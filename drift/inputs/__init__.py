"""What the monitor records and reads: predictions, returns, features.

Entry points: `recording` (frames into the database), `observed` (predictions and returns of a
session), `features` (feature values of a session), `feeds` (how complete they are).
"""

# The modules that other rooms may import.
__all__ = ["features", "feeds", "observed", "recording"]
