"""The model registry beside MLflow's own store."""
