"""Artifact stores beside MLflow's plain repository."""
