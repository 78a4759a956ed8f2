"""Frames of any library and files of any layout, as Arrow batches and back.

The only room that knows pandas, polars and DuckDB; none of them is imported before a caller needs
it. `Frame` is the entrance; the column functions serve code that reads its batches.
"""

from mlflow_timescale.common.errors import InvalidFrame
from mlflow_timescale.common.frames.columns import (
    Column,
    Columns,
    as_arrow,
    as_column,
    labels,
    text,
)
from mlflow_timescale.common.frames.frame import Frame
from mlflow_timescale.common.frames.joining import OUTPUTS, make_frame

__all__ = [
    "OUTPUTS",
    "Column",
    "Columns",
    "Frame",
    "InvalidFrame",
    "as_arrow",
    "as_column",
    "labels",
    "make_frame",
    "text",
]
