"""What a source of research is: the name of a table, or the path of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["is_table"]

FILES = (".parquet", ".csv", ".feather", ".arrow", ".ipc", ".gz", ".bz2", ".xz", ".zst", ".zip")


def is_table(source: Any) -> bool:
    """Whether a source of research is the name of a table, and not the path of a file.

    >>> is_table("research.right_values"), is_table("right.parquet"), is_table("/data/right")
    (True, False, False)
    """
    if not isinstance(source, str) or "/" in source or "\\" in source:
        return False
    return not source.lower().endswith(FILES) and not Path(source).exists()
