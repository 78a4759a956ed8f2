"""What the monitor stores and returns.

Entry points: `values` (numbers of a session, in revisions), `references` (accepted windows),
`drift_metrics` (`DriftMetrics` and `AlertConfig`), `limits` and `remarks` (words beside figures).
"""

# The modules that other rooms may import.
__all__ = ["drift_metrics", "limits", "references", "remarks", "values"]
