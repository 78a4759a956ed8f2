"""Scripts to read and run; `mlflow-timescale demo` runs `demo.py`."""
