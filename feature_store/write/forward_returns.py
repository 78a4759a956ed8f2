"""Forward returns of prices, with the time at which each became known: labels that do not leak."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlflow_timescale.common.frames import Frame, labels, make_frame
from mlflow_timescale.common.micros import column_micros

from ..errors import InvalidFrame, InvalidValue
from ..values.encoding import column_values
from .availability import Lag, availability

if TYPE_CHECKING:
    import numpy.typing as npt

    from mlflow_timescale.common.micros import Micros


def forward_returns(
    prices: Any,
    horizons: int | Sequence[int] = (1, 5, 10),
    *,
    entity: str = "entity_key",
    event_time: str = "event_time",
    price: str = "close",
    availability_lag: Lag = None,
    output: str = "pandas",
) -> Any:
    """The return from each price to the one `horizon` rows later: p[t + h] / p[t] - 1.

    This is the definition of alphalens (`compute_forward_returns`): a row is a time at which any
    entity has a price, and a return needs a price at both of its ends; missing prices are not
    filled.

    Parameters
    ----------
    prices
        A long frame (any source of `mlflow_timescale.common.frames.Frame`) with a column each for
        entity, time (aware) and price; or, as alphalens takes it, a pandas frame with a row for
        each time and a column for each entity.
    horizons
        Numbers of rows, from 1: of sessions, if the prices are daily.
    entity, event_time, price
        The names of the columns of a long frame.
    availability_lag
        When a price becomes known: a duration after its time, or a rule such as "XNYS next open";
        by default at its time.
    output
        "pandas", "arrow" or "polars".

    Returns
    -------
    frame
        A row for each return: entity_key, event_time (of the first price), horizon, feature_name
        ("fwd_ret_5"), value (a fraction: 0.01 is 1%), and known_at, when the last price was known.
        `FeatureStore.write_frame(..., layout="long", ingest_time="known_at")` stores it, so that a
        training set as of T has only returns that had ended by T.

    Raises
    ------
    InvalidFrame
        A column is missing, or an entity has two prices at one time.
    InvalidTime
        A time is naive.
    InvalidValue
        A horizon is no whole number of rows from 1, or a price is not positive.

    Examples
    --------
    >>> import pandas as pd
    >>> dates = pd.date_range("2024-01-02 21:00", periods=3, freq="D", tz="UTC")
    >>> prices = pd.DataFrame({"AAPL": [100.0, 110.0, 99.0]}, index=dates)
    >>> returns = forward_returns(prices, horizons=1)
    >>> returns["value"].round(3).tolist()
    [0.1, -0.1]
    >>> (returns["known_at"] - returns["event_time"]).tolist()[0]
    Timedelta('1 days 00:00:00')
    """
    steps = _steps(horizons)
    entities, times, matrix = _matrix(prices, entity, event_time, price)
    rule = availability(availability_lag)
    known = times if rule is None else rule.known_at(times)
    parts = [_returns(matrix, times, known, step) for step in steps if step < len(times)]
    names = np.array(entities, dtype=object)
    columns = {
        "entity_key": names[_joined(parts, 0, np.int64)],
        "event_time": _joined(parts, 1, np.int64).view("M8[us]"),
        "horizon": _joined(parts, 2, np.int64),
        "value": _joined(parts, 3, np.float64),
        "known_at": _joined(parts, 4, np.int64).view("M8[us]"),
    }
    feature = [f"fwd_ret_{step}" for step in columns["horizon"].tolist()]
    return make_frame({**columns, "feature_name": np.array(feature, dtype=object)}, output)


def _steps(horizons: Any) -> list[int]:
    is_one = isinstance(horizons, (str, bytes)) or not isinstance(horizons, Iterable)
    given = [horizons] if is_one else list(horizons)
    whole = all(isinstance(step, (int, np.integer)) for step in given)
    if not given or not whole or min(given) < 1:
        raise InvalidValue(f"horizons are {given}; give numbers of rows from 1, such as [1, 5]")
    return [int(step) for step in given]


def _returns(
    matrix: npt.NDArray[np.float64], times: Micros, known: Micros, step: int
) -> tuple[npt.NDArray[Any], ...]:
    values = matrix[step:] / matrix[:-step] - 1.0
    row, column = np.nonzero(np.isfinite(values))
    return column, times[row], np.full(len(row), step), values[row, column], known[row + step]


def _joined(parts: list[tuple[npt.NDArray[Any], ...]], position: int, kind: Any) -> Any:
    return np.concatenate([np.empty(0, dtype=kind), *(part[position] for part in parts)])


def _matrix(
    prices: Any, entity: str, event_time: str, price: str
) -> tuple[list[str], Micros, npt.NDArray[np.float64]]:
    """Entities, times in order, and prices of shape (times, entities), NaN where there is none."""
    if _is_wide(prices, entity):
        prices = _long(prices, entity, event_time, price)
    columns = Frame(prices, text=[entity]).columns()
    found, code = labels(columns[entity], entity)
    names, rank = np.unique(found, return_inverse=True)
    code = rank[code].astype(np.int32)
    times, row = np.unique(column_micros(columns[event_time], event_time), return_inverse=True)
    values = column_values(columns[price], f"column {price!r}").number
    if (values <= 0).any():
        raise InvalidValue(f"column {price!r} holds {float(values[values <= 0][0])}, not a price")
    cells = row * len(names) + code
    if len(np.unique(cells)) < len(cells):
        raise InvalidFrame("an entity has two prices at one time; keep one of them")
    matrix = np.full((len(times), len(names)), np.nan)
    matrix.ravel()[cells] = values
    return names.tolist(), times, matrix


def _is_wide(prices: Any, entity: str) -> bool:
    """Whether it is a pandas frame with times as its index and entities as its columns."""
    is_pandas = type(prices).__module__.partition(".")[0] == "pandas"
    return is_pandas and getattr(prices.index, "tz", None) is not None and entity not in prices


def _long(prices: Any, entity: str, event_time: str, price: str) -> Any:
    return {
        entity: [str(name) for name in np.tile(np.asarray(prices.columns, object), len(prices))],
        event_time: prices.index.repeat(len(prices.columns)).to_series().reset_index(drop=True),
        price: prices.to_numpy(dtype=np.float64).ravel(),
    }
