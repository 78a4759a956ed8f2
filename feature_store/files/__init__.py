"""Training sets and the feature lake as files, with proof of their content.

Entry points: `snapshots` (a training set as Parquet), `lake` and `lake_export` (all features as
Parquet), `fingerprint` (one hash for a frame), `mlflow_dataset` (snapshots in MLflow).
"""

# The modules that other rooms may import.
__all__ = ["lake", "lake_export", "manifest", "snapshots", "storage", "verification"]
