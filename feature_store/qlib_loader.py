"""A data loader for qlib's data handlers: features as they were known at a time of each session.

qlib's own loader reads a folder that holds one state of the data, the last one. This one reads what
was known on each day, so that a model is trained on what it will be given live. Importing it needs
qlib (the extra `qlib`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timezone
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from qlib.config import C
from qlib.data import D
from qlib.data.dataset.loader import DLWParser

from mlflow_timescale import db
from mlflow_timescale.common import packages
from mlflow_timescale.common.calendar_overrides import read_calendar
from mlflow_timescale.common.micros import MISSING, Micros
from mlflow_timescale.common.settings import URI
from mlflow_timescale.common.time import InvalidTime, parse_day, parse_time, to_micros
from mlflow_timescale.db.masking import has_secret
from mlflow_timescale.db.uri import DatabaseURI

from .catalogue.selection import entities_of
from .errors import FeatureError, InvalidValue
from .read.cells import Cells
from .read.point_in_time import Options, read_cells
from .read.query import OF_VIEW
from .store import FeatureStore

_SESSION_TIME = re.compile(r"(\S+) (open|close)")
_DATETIME, _INSTRUMENT = "datetime", "instrument"  # qlib's names of the index
Span = tuple[pd.Timestamp, pd.Timestamp]
Spans = Mapping[str, Sequence[Span] | None]


class Sessions(NamedTuple):
    """Sessions as dates, and the moment of each at which its row is read, in microseconds."""

    days: list[date]
    as_of: Micros


class FeatureStoreLoader(DLWParser):  # type: ignore[misc]  # qlib has no types
    """Features of the store in qlib's form: one row for each session and instrument.

    A row holds what was known at `as_of` of its session: no value that became known later, and no
    later revision of one. An instrument has a row where one of its features was known; a session
    whose time has not come has none. Labels look into the future, and are no features: read them by
    a loader of qlib beside this one (`NestedDataLoader`).

    Parameters
    ----------
    config
        Names of features; or two lists, of features and of their columns; or a mapping of groups of
        columns ("feature", ...) to these.
    as_of
        When a session's row is read: "XSHG close" or "XSHG open" of a trading calendar, whose
        sessions are the rows; or a time of day such as "14:50 Asia/Shanghai" on the days of qlib's
        calendar.
    uri
        The database. By default that of qlib's experiment manager if it is one of ours, else
        MLFLOW_TIMESCALE_URI. One with a password is left out when the loader is pickled.
    feature_version, max_age, calendar, max_staleness, written_by
        As in `FeatureStore.training_frame`. Without `max_age` a value counts until the next one is
        known, however old it is.
    dtype
        The type of the columns; float32 is that of qlib's own data.
    freq
        The frequency of qlib's calendar, and of its lists of instruments.

    Raises
    ------
    FeatureError
        The base of all errors of this package.

    Examples
    --------
    >>> loader = FeatureStoreLoader({"feature": ["rsi_14"]}, as_of="XSHG close", uri=uri)
    >>> loader.fields
    {'feature': (['rsi_14'], ['rsi_14'])}
    """

    def __init__(
        self,
        config: Sequence[Any] | Mapping[str, Sequence[Any]],
        as_of: str,
        uri: str | None = None,
        *,
        feature_version: int | Mapping[str, int] | None = None,
        max_age: str | None = None,
        calendar: str | None = None,
        max_staleness: str | None = OF_VIEW,
        written_by: str | datetime | None = None,
        dtype: str = "float32",
        freq: str = "day",
    ) -> None:
        super().__init__(config)
        self.as_of = as_of
        self.uri = uri
        self.dtype = dtype
        self.freq = freq
        self.limits = {
            "feature_version": feature_version,
            "max_age": max_age,
            "calendar": calendar,
            "max_staleness": max_staleness,
            "written_by": None if written_by is None else parse_time(written_by, "written_by"),
        }
        if not _SESSION_TIME.fullmatch(as_of):
            parse_time(f"2000-01-03 {as_of}", "as_of")

    def __reduce__(self) -> tuple[Any, ...]:
        """Everything but a secret: qlib stores the loader with every dataset."""
        state = {**self.__dict__, "uri": None if has_secret(self.uri or "") else self.uri}
        return packages.blank, ("feature_store.qlib_loader", type(self).__name__), state

    def load(
        self, instruments: Any = None, start_time: Any = None, end_time: Any = None
    ) -> pd.DataFrame:
        """The rows of some instruments and sessions.

        Parameters
        ----------
        instruments
            A list; a market such as "csi300", or its configuration of `D.instruments`, whose
            members have rows in their time only; by default every entity that has the features.
        start_time, end_time
            The first and last day; by default those of qlib's calendar.

        Returns
        -------
        DataFrame
            Sorted, indexed by datetime (midnight of the session) and instrument.

        Raises
        ------
        UnknownFeature
            A name was never written.
        InvalidValue
            A feature holds texts or vectors.

        Examples
        --------
        >>> close = datetime(2024, 1, 2, 7, tzinfo=timezone.utc)
        >>> with FeatureStore(uri) as store:
        ...     store.write_features("SH600000", close, {"rsi_14": 61.25}, ingest_time=close)
        1
        >>> loader = FeatureStoreLoader(["rsi_14"], as_of="XSHG close", uri=uri)
        >>> loader.load(["SH600000"], "2024-01-01", "2024-01-03")
                               rsi_14
        datetime   instrument
        2024-01-02 SH600000     61.25
        2024-01-03 SH600000     61.25
        """
        names = self._names()
        with FeatureStore(_database(self.uri)) as store:
            with store.connection() as conn:
                sessions = self._sessions(conn, start_time, end_time)
                spans = self._spans(conn, instruments, names)
            index = _index(sessions, spans)
            cells = self._cells(store, names, index)
        return self._frame(names, index, cells)

    def load_group_df(self, *arguments: Any, **options: Any) -> pd.DataFrame:
        """Not used: all groups are read at once, from one snapshot of the database."""
        raise NotImplementedError("call load()")

    def _names(self) -> list[str]:
        groups = self.fields.values() if self.is_group else [self.fields]
        return list(dict.fromkeys(name for names, _columns in groups for name in names))

    def _sessions(self, conn: db.Connection, start: Any, end: Any) -> Sessions:
        first, last = (None if day is None else _day(day) for day in (start, end))
        exchange = _SESSION_TIME.fullmatch(self.as_of)
        if exchange is None or first is None or last is None:
            days = [day.date() for day in D.calendar(first, last, freq=self.freq)]
        if exchange is None:
            moments = [to_micros(parse_time(f"{day} {self.as_of}", "as_of")) for day in days]
            return _begun(days, np.array(moments, dtype=np.int64))
        calendar = read_calendar(conn, exchange[1])
        days = calendar.sessions_in_range(first or days[0], last or days[-1])
        at = calendar.session_close if exchange[2] == "close" else calendar.session_open
        return _begun(days, np.array([to_micros(at(day)) for day in days], dtype=np.int64))

    def _spans(self, conn: db.Connection, instruments: Any, names: list[str]) -> Spans:
        """The instruments with the times in which they have rows; None for all times."""
        if instruments is None:
            return dict.fromkeys(entities_of(conn, names))
        if isinstance(instruments, str):
            instruments = D.instruments(instruments)
        if not isinstance(instruments, Mapping):
            return dict.fromkeys(str(name) for name in instruments)
        if "market" not in instruments:
            return instruments
        spans: Spans = D.list_instruments(instruments, freq=self.freq, as_list=False)
        return spans

    def _cells(self, store: FeatureStore, names: list[str], index: _Index) -> Cells:
        query = store._query(names, entity=_INSTRUMENT, **self.limits)
        spine = query.spine(index.spine())
        options = Options(database=store.database, readers=store._readers)
        with store.connection() as conn:
            return read_cells(conn, spine, query, options)[0]

    def _frame(self, names: list[str], index: _Index, cells: Cells) -> pd.DataFrame:
        texts = [names[position] for position in sorted(cells.structures)]
        if texts:
            raise InvalidValue(
                f"{', '.join(texts)}: values are no numbers, which qlib's processors need; "
                "leave out these features"
            )
        is_known = (cells.event != MISSING).any(axis=0)
        rows = index.rows(is_known)
        values = {
            name: cells.value[position, is_known].astype(self.dtype)
            for position, name in enumerate(names)
        }
        groups = self.fields if self.is_group else {"": self.fields}
        frames = {group: _columns(values, rows, fields) for group, fields in groups.items()}
        return pd.concat(frames, axis=1) if self.is_group else frames[""]


class _Index(NamedTuple):
    """The pairs of a session and an instrument, in order, as positions in both lists."""

    sessions: Sessions
    instruments: list[str]
    session: npt.NDArray[np.intp]
    instrument: npt.NDArray[np.intp]

    def spine(self) -> dict[str, Any]:
        """The pairs as a spine: an instrument and a time."""
        names = np.array(self.instruments, dtype=object)
        moments = pd.to_datetime(self.sessions.as_of[self.session], unit="us", utc=True)
        return {_INSTRUMENT: names[self.instrument], "as_of": moments}

    def rows(self, mask: npt.NDArray[np.bool_]) -> pd.MultiIndex:
        """Some of the pairs as qlib's index."""
        # From texts, as qlib reads its calendar: pandas gives dates another resolution.
        days = pd.to_datetime([f"{day}" for day in self.sessions.days])
        levels: list[Any] = [days, self.instruments]
        codes: list[Any] = [self.session[mask], self.instrument[mask]]
        pairs = pd.MultiIndex(levels, codes, names=[_DATETIME, _INSTRUMENT])
        return pairs.remove_unused_levels()


def _index(sessions: Sessions, spans: Spans) -> _Index:
    names = sorted(spans)
    days = np.array(sessions.days, dtype="datetime64[D]")
    member = np.zeros((len(days), len(names)), dtype=bool)
    for column, name in enumerate(names):
        for first, last in _of(spans, name):
            member[:, column] |= (days >= first) & (days <= last)
    session, instrument = np.nonzero(member)
    return _Index(sessions, names, session, instrument)


def _of(spans: Spans, name: str) -> list[tuple[np.datetime64, np.datetime64]]:
    given = spans[name]
    if given is None:
        return [(np.datetime64(date.min), np.datetime64(date.max))]
    return [(np.datetime64(_day(first)), np.datetime64(_day(last))) for first, last in given]


def _begun(days: list[date], as_of: Micros) -> Sessions:
    """The sessions whose time has come."""
    count = int(np.searchsorted(as_of, to_micros(datetime.now(timezone.utc)), "right"))
    return Sessions(days[:count], as_of[:count])


def _columns(
    values: Mapping[str, npt.NDArray[Any]],
    rows: pd.MultiIndex,
    fields: tuple[Sequence[str], Sequence[str]],
) -> pd.DataFrame:
    names, columns = fields
    frame = pd.DataFrame({place: values[name] for place, name in enumerate(names)}, index=rows)
    frame.columns = pd.Index(list(columns))
    return frame


def _day(moment: Any) -> date:
    """The day of anything that qlib takes as a time. Raises InvalidTime."""
    if isinstance(moment, str) and len(moment) == len("2024-01-12"):
        return parse_day(moment)
    try:
        day = pd.Timestamp(moment).date()
    except ValueError as exc:
        raise InvalidTime(f"{moment!r} is no date; write 2024-01-12") from exc
    if not isinstance(day, date) or pd.isna(day):
        raise InvalidTime(f"{moment!r} is no date; write 2024-01-12")
    return day


def _database(uri: str | None) -> DatabaseURI:
    if uri is not None:
        return DatabaseURI.parse(uri)
    tracking = str(C.exp_manager["kwargs"].get("uri") or "")
    for text in (tracking, URI.get() or ""):
        if text.startswith(("postgresql", "postgres:", "timescaledb")):
            return DatabaseURI.parse(text)
    raise FeatureError(
        "the loader has no database: give it uri, let qlib's experiment manager record there, "
        f"or set {URI.name}"
    )
