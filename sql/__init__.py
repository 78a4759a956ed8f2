"""The project's SQL: migrations by tier (`base`, `timescale`, `community`) and named queries."""
