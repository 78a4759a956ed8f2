"""MLflow on TimescaleDB: tracking store, model registry and artifacts in one database."""

from mlflow_timescale.version import __version__

__all__ = ["__version__"]
