"""Tracking calls and the layout of `metrics`, beside MLflow's own store."""
