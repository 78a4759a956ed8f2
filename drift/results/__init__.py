"""What the monitor stores and returns.

Entry points: `values` (numbers of a session, in revisions), `references` (accepted windows),
`drift_metrics` (`DriftMetrics` and `AlertConfig`).
"""
