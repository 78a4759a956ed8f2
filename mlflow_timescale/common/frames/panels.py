"""Panel data in pandas: frames with a row for each day and name."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd


class Pairs(NamedTuple):
    """Pairs of a day and a name, as positions in two sorted lists.

    >>> pairs = Pairs([date(2024, 1, 2), date(2024, 1, 3)], ["A", "B"], np.r_[0, 1], np.r_[1, 0])
    >>> len(pairs.only(np.array([True, False])).day)
    1
    """

    days: Sequence[date]
    names: Sequence[str]
    day: npt.NDArray[np.intp]
    name: npt.NDArray[np.intp]

    def only(self, mask: npt.NDArray[np.bool_]) -> Pairs:
        """The pairs for which a mask of shape (n,) is True."""
        return self._replace(day=self.day[mask], name=self.name[mask])


def pandas_panel(
    pairs: Pairs, columns: Mapping[Hashable, npt.NDArray[Any]], levels: tuple[str, str]
) -> pd.DataFrame:
    """A pandas frame of columns, each of shape (n,), indexed by n pairs.

    `levels` names the levels of the index: the day, as midnight, and the name. Keys of columns that
    are pairs make two levels of columns.

    >>> pairs = Pairs([date(2024, 1, 2)], ["A", "B"], np.r_[0, 0], np.r_[0, 1])
    >>> pandas_panel(pairs, {"rsi_14": np.r_[61.5, 48.0]}, ("day", "name"))
                     rsi_14
    day        name
    2024-01-02 A       61.5
               B       48.0
    """
    import pandas as pd

    # From texts: for date objects pandas chooses a resolution that loaders of files do not have.
    days = pd.to_datetime([f"{day}" for day in pairs.days])
    values: list[Any] = [days, list(pairs.names)]
    codes: list[Any] = [pairs.day, pairs.name]
    index = pd.MultiIndex(values, codes, names=levels).remove_unused_levels()
    frame = pd.DataFrame(dict(enumerate(columns.values())), index=index)
    keys: list[Any] = list(columns)
    is_grouped = bool(keys) and isinstance(keys[0], tuple)
    frame.columns = pd.MultiIndex.from_tuples(keys) if is_grouped else pd.Index(keys)
    return frame
