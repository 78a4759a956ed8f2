"""Predictions of qlib, a score for each datetime and instrument; differences of two files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from mlflow_timescale.common.frames import InvalidFrame, Labels, read_pickled_frame

__all__ = ["Predictions", "SessionChange", "changes_between", "read_predictions"]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Scores in the order of their file, each pair of time and instrument once.

    Attributes
    ----------
    times, instruments, scores
        datetime64[us], str and float64, shape (n,).
    """

    times: npt.NDArray[np.datetime64]
    instruments: npt.NDArray[np.str_]
    scores: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def sessions(self) -> tuple[date, date] | None:
        """The first and the last day; None without predictions."""
        if not len(self):
            return None
        first, last = self.times.min(), self.times.max()
        return first.astype("M8[D]").item(), last.astype("M8[D]").item()


@dataclass(frozen=True)
class SessionChange:
    """The predictions of a session that changed, were removed or were added: their numbers."""

    session: date
    changed: int
    removed: int
    added: int


def read_predictions(data: bytes, name: str) -> Predictions:
    """The scores of a pickled frame or series of qlib, indexed by datetime and instrument.

    Reading runs no code of the pickle. The first column of a frame and the last value of a repeated
    pair count. Raises InvalidFrame.

    Parameters
    ----------
    data
        The content of the file.
    name
        The name of the file, for errors.

    Examples
    --------
    >>> import pickle, pandas
    >>> index = pandas.MultiIndex.from_tuples([(pandas.Timestamp("2024-01-02"), "A")])
    >>> index.names = ["datetime", "instrument"]
    >>> read_predictions(pickle.dumps(pandas.Series([0.5], index)), "pred.pkl").scores
    array([0.5])
    """
    frame = read_pickled_frame(data, name)
    levels = {level.name: level for level in frame.index}
    if not {"datetime", "instrument"} <= set(levels) or not frame.columns:
        raise InvalidFrame(
            f"{name} has no index of datetime and instrument, as predictions of qlib have; it has "
            f"{', '.join(levels) or 'none'}"
        )
    try:
        predictions = Predictions(
            _values(levels["datetime"]).astype("datetime64[us]"),
            _values(levels["instrument"]).astype(str),
            _values(frame.columns[0]).astype(np.float64),
        )
    except (TypeError, ValueError) as exc:
        raise InvalidFrame(f"{name} holds no scores by datetime and instrument: {exc}") from exc
    return _without_repeats(predictions)


def changes_between(then: Predictions, now: Predictions) -> tuple[SessionChange, ...]:
    """The sessions in which predictions differ, in order, up to the last session of `then`.

    Two missing values are equal.

    Examples
    --------
    >>> days = np.array(["2024-01-02", "2024-01-03"], "M8[us]")
    >>> names = np.array(["A", "B"])
    >>> then = Predictions(days[[0, 0]], names, np.array([1.0, 2.0]))
    >>> now = Predictions(days[[0, 0, 1]], names[[0, 1, 0]], np.array([1.0, 3.0, 4.0]))
    >>> changes_between(then, now)
    (SessionChange(session=datetime.date(2024, 1, 2), changed=1, removed=0, added=0),)
    """
    if not len(then):
        return ()
    keys_then, keys_now = _keys(then, now)
    _, at_then, at_now = np.intersect1d(keys_then, keys_now, return_indices=True)
    was, is_now = then.scores[at_then], now.scores[at_now]
    differs = ~((was == is_now) | (np.isnan(was) & np.isnan(is_now)))
    last = then.times.max().astype("M8[D]")
    days_then, days_now = then.times.astype("M8[D]"), now.times.astype("M8[D]")
    counts = [
        days_then[at_then][differs],
        days_then[~np.isin(keys_then, keys_now)],
        days_now[~np.isin(keys_now, keys_then) & (days_now <= last)],
    ]
    sessions = np.unique(np.concatenate(counts))
    table = [
        np.bincount(np.searchsorted(sessions, days), minlength=len(sessions)) for days in counts
    ]
    return tuple(
        SessionChange(session.item(), *(int(count) for count in row))
        for session, row in zip(sessions, np.transpose(table), strict=True)
    )


def _keys(*files: Predictions) -> list[npt.NDArray[np.int64]]:
    """A number for each pair of time and instrument; equal pairs have equal numbers."""
    times = np.unique(np.concatenate([predictions.times for predictions in files]))
    names = np.unique(np.concatenate([predictions.instruments for predictions in files]))
    return [
        np.searchsorted(times, predictions.times) * np.int64(len(names))
        + np.searchsorted(names, predictions.instruments)
        for predictions in files
    ]


def _without_repeats(predictions: Predictions) -> Predictions:
    [keys] = _keys(predictions)
    _, last = np.unique(keys[::-1], return_index=True)
    if len(last) == len(keys):
        return predictions
    kept = np.sort(len(keys) - 1 - last)
    return Predictions(
        predictions.times[kept], predictions.instruments[kept], predictions.scores[kept]
    )


def _values(labels: Labels) -> npt.NDArray[Any]:
    """The value of each row. Raises InvalidFrame if values cannot be read."""
    if labels.unread:
        raise InvalidFrame(labels.unread)
    if labels.codes is None:
        return labels.values
    if (labels.codes < 0).any():
        raise InvalidFrame(f"the level {labels.name} of the index has missing values")
    values: npt.NDArray[Any] = np.asarray(labels.values)[labels.codes]
    return values
