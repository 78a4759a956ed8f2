"""Benchmarks, by area: `python -m benchmarks` lists them."""
