"""The model registry: MLflow's store on our database, its history, and `ModelRegistry`.

Entry points: `store` (what MLflow calls), `model_registry` (what users hold), `history` (earlier
states of aliases, stages and tags), `naming` (how models are written).
"""

# The modules that other rooms may import.
__all__ = ["history", "model_registry", "naming", "store"]
