"""Lists of records that people look at: a short repr, and a frame of their fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from mlflow_timescale.common.frames import make_frame

Record = TypeVar("Record")
_SHOWN = 3


class Rows(list[Record]):
    """A list of records of one data class.

    Examples
    --------
    >>> from mlflow_timescale.common.calendars import Override
    >>> from datetime import date
    >>> storms = Rows([Override(date(2024, 2, day), False, None, "storm") for day in (1, 2)])
    >>> storms.to_frame()["why"].tolist()
    ['storm', 'storm']
    """

    def __repr__(self) -> str:
        if len(self) <= _SHOWN:
            return super().__repr__()
        kind = type(self[0]).__name__
        return f"<{len(self)} {kind} rows: [0] is {self[0]!r}; .to_frame() shows all>"

    def to_frame(self, output: str = "pandas") -> Any:
        """A frame with a row for each record, and a column for each of its fields.

        Parameters
        ----------
        output
            "pandas", "arrow" or "polars".

        Raises
        ------
        InvalidFrame
            `output` is unknown.
        """
        records = [record_fields(record) for record in self]
        names = list(dict.fromkeys(name for record in records for name in record))
        columns = {name: [record.get(name) for record in records] for name in names}
        return make_frame(columns, output)


def record_fields(record: Any) -> dict[str, Any]:
    """The fields of a data class or a mapping by name; those of a data class inside are not split.

    >>> record_fields({"entity_key": "AAPL"})
    {'entity_key': 'AAPL'}
    """
    if isinstance(record, Mapping):
        return dict(record)
    if not is_dataclass(record):
        return {"value": record}
    return {entry.name: getattr(record, entry.name) for entry in fields(record)}
