"""Frames of any library, and files, read as Arrow columns; results in the caller's library.

The only package that handles pandas, polars and DuckDB frames; it imports none of them before a
caller passes one. Start at `Frame`; the functions work on the columns of its batches.
"""

from mlflow_timescale.common.errors import InvalidFrame
from mlflow_timescale.common.frames.columns import (
    Column,
    Columns,
    as_arrow,
    as_column,
    as_field,
    labels,
    text,
)
from mlflow_timescale.common.frames.frame import Frame
from mlflow_timescale.common.frames.joining import OUTPUTS, make_frame, pandas_matrix, pandas_series
from mlflow_timescale.common.frames.limits import DecodesToTooMuch, check_parquet, decoded_limit
from mlflow_timescale.common.frames.panels import Pairs, pandas_panel
from mlflow_timescale.common.frames.pickled_frames import (
    Labels,
    PickledFrame,
    read_pickled_frame,
)
from mlflow_timescale.common.frames.pickles import RefusedPickle
from mlflow_timescale.common.frames.spreadsheets import without_formulas
from mlflow_timescale.common.frames.structures import (
    JSON,
    dump_json,
    is_structure,
    load_json,
)

__all__ = [
    "JSON",
    "OUTPUTS",
    "Column",
    "Columns",
    "DecodesToTooMuch",
    "Frame",
    "InvalidFrame",
    "Labels",
    "Pairs",
    "PickledFrame",
    "RefusedPickle",
    "as_arrow",
    "as_column",
    "as_field",
    "check_parquet",
    "decoded_limit",
    "dump_json",
    "is_structure",
    "labels",
    "load_json",
    "make_frame",
    "pandas_matrix",
    "pandas_panel",
    "pandas_series",
    "read_pickled_frame",
    "text",
    "without_formulas",
]
