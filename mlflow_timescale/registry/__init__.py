"""The model registry: MLflow's store, its history, and `ModelRegistry`."""
