"""The application that `mlflow-timescale server` runs: MLflow's, behind ASGI middleware of ours.

`mlflow server --app-name timescale` runs it too: `application.create_app` is an entry point of the
group `mlflow.app`.
"""

# The modules that other rooms may import.
__all__ = ["launch"]
