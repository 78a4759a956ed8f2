"""What live code served, remembered: features, model, output and both clocks of every prediction.

Entry points: `live` (`Serving`), `requests` (predictions to record), `storing` (a request into the
database), `memory` (what was served, for comparison and replay), `models` (a verified version),
`removal` (retention).
"""

# The modules that other rooms may import.
__all__ = [
    "cells",
    "environment",
    "live",
    "memory",
    "models",
    "removal",
    "requests",
    "storing",
]
