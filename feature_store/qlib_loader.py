"""A data loader for qlib's data handlers: features as known at a time of each session.

qlib's own loader reads a folder with one state of the data, the last one. This loader reads the
values that were known on each day, so that a model is trained on the inputs that it will have in
production. Importing it needs qlib (the extra `qlib`).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from datetime import date, datetime, timezone
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from qlib.config import C
from qlib.data import D
from qlib.data.dataset.loader import DLWParser

from mlflow_timescale import db
from mlflow_timescale.common import packages
from mlflow_timescale.common.calendar_overrides import read_calendar
from mlflow_timescale.common.frames import Pairs, pandas_panel
from mlflow_timescale.common.micros import MISSING, Micros
from mlflow_timescale.common.settings import URI
from mlflow_timescale.common.time import InvalidTime, parse_time, to_micros
from mlflow_timescale.db.masking import has_secret
from mlflow_timescale.db.uri import DatabaseURI

from .catalogue.selection import entities_of
from .errors import FeatureError, InvalidValue
from .read.cells import Cells
from .read.point_in_time import Options, read_cells
from .read.query import OF_VIEW
from .store import FeatureStore

_SESSION_TIME = re.compile(r"(\S+) (open|close)")
_DTYPES = ("float32", "float64")
_LEVELS = ("datetime", "instrument")  # qlib's names of the index
Spans = Mapping[str, Sequence[tuple[Any, Any]] | None]


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
    InvalidValue
        `config` names no features, or `dtype` is another one.
    InvalidTime
        `as_of` is no time of a session.

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
        if isinstance(config, str) or not config:
            raise InvalidValue(
                f"config {config!r} names no features: give a list such as ['rsi_14']"
            )
        if dtype not in _DTYPES:
            raise InvalidValue(f"dtype {dtype!r} is not one of {', '.join(_DTYPES)}")
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
            _require_clock(as_of)

    def __reduce__(self) -> tuple[Any, ...]:
        """Everything but a secret: qlib stores the loader with every dataset."""
        state = {**self.__dict__, "uri": None if has_secret(self.uri or "") else self.uri}
        return packages.blank, ("feature_store.qlib_loader", type(self).__name__), state

    def load(self, instruments: Any = None, start_time: Any = None, end_time: Any = None) -> Any:
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
            pairs = _pairs(sessions, spans)
            cells = self._cells(store, names, pairs, sessions)
        return self._frame(names, pairs, cells)

    def load_group_df(self, *arguments: Any, **options: Any) -> Any:
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

    def _cells(
        self, store: FeatureStore, names: list[str], pairs: Pairs, sessions: Sessions
    ) -> Cells:
        instruments = pa.array(pairs.names, type=pa.string())
        moments = pa.array(sessions.as_of[pairs.day], type=pa.timestamp("us", "UTC"))
        query = store._query(names, **self.limits)
        spine = query.spine(
            {"entity_key": instruments.take(pa.array(pairs.name)), "as_of": moments}
        )
        options = Options(database=store.database, readers=store._readers)
        with store.connection() as conn:
            return read_cells(conn, spine, query, options)[0]

    def _frame(self, names: list[str], pairs: Pairs, cells: Cells) -> Any:
        texts = [names[position] for position in sorted(cells.structures)]
        if texts:
            raise InvalidValue(
                f"{', '.join(texts)}: values are no numbers, which qlib's processors need; "
                "leave out these features"
            )
        is_known = (cells.event != MISSING).any(axis=0)
        values = {
            name: cells.value[position, is_known].astype(self.dtype)
            for position, name in enumerate(names)
        }
        columns = {key: values[name] for key, name in self._columns()}
        return pandas_panel(pairs.only(is_known), columns, _LEVELS)

    def _columns(self) -> Iterator[tuple[Hashable, str]]:
        """The key of each column, and its feature."""
        groups = self.fields if self.is_group else {None: self.fields}
        for group, (names, columns) in groups.items():
            for name, column in zip(names, columns, strict=True):
                yield (column if group is None else (group, column)), name


def _require_clock(as_of: str) -> None:
    try:
        parse_time(f"2000-01-03 {as_of}", "as_of")
    except InvalidTime as exc:
        raise InvalidTime(
            f"as_of {as_of!r} is no time of a session: write a time of day with its zone, such as "
            "'15:00 Asia/Shanghai', or 'XSHG close'"
        ) from exc


def _pairs(sessions: Sessions, spans: Spans) -> Pairs:
    """The sessions and instruments that have a row, if anything is known."""
    names = sorted(spans)
    days = np.array(sessions.days, dtype="datetime64[D]")
    member = np.zeros((len(days), len(names)), dtype=bool)
    for column, name in enumerate(names):
        for first, last in _of(spans, name):
            member[:, column] |= (days >= first) & (days <= last)
    return Pairs(sessions.days, names, *np.nonzero(member))


def _of(spans: Spans, name: str) -> list[tuple[np.datetime64, np.datetime64]]:
    given = spans[name]
    if given is None:
        return [(np.datetime64(date.min), np.datetime64(date.max))]
    return [(np.datetime64(_day(first)), np.datetime64(_day(last))) for first, last in given]


def _begun(days: list[date], as_of: Micros) -> Sessions:
    """The sessions whose time has come."""
    count = int(np.searchsorted(as_of, to_micros(datetime.now(timezone.utc)), "right"))
    return Sessions(days[:count], as_of[:count])


def _day(moment: Any) -> date:
    """The day of a time as qlib takes it: a text, a datetime (of pandas, too), or of numpy.

    Raises InvalidTime.
    """
    try:
        if isinstance(moment, np.datetime64):
            moment = moment.astype("datetime64[us]").item()
        elif isinstance(moment, str):
            moment = datetime.fromisoformat(moment.strip())
        day = moment.date() if isinstance(moment, datetime) else moment
    except ValueError:
        day = None
    if not isinstance(day, date):
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
