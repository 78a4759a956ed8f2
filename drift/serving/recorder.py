"""The part of `Serving` that records; it holds the connections and the way to the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from mlflow_timescale import db
from mlflow_timescale.common import git, packages
from mlflow_timescale.common.text import check_text
from mlflow_timescale.spool import Drained, Spool

from .. import strategies
from . import requests, storing
from .cells import aligned, no_features, read_features
from .environment import environment
from .outbox import Requests
from .requests import Origin, Request, SignalName

stored = packages.attribute("feature_store", "values.stored")


@dataclass(frozen=True)
class Receipt:
    """What became of a request.

    Attributes
    ----------
    request_id
        The caller's id, or the one that was made for the request.
    is_new
        False if the request was recorded before, and the call changed nothing.
    is_spooled
        True if the database was away: the request waits in the spool.

    Examples
    --------
    >>> Receipt("close of 2024-04-18", True).is_new
    True
    """

    request_id: str
    is_new: bool
    is_spooled: bool = False


class PredictionRecorder:
    """Records predictions of one strategy; the parameters are those of `Serving`."""

    def __init__(
        self,
        database: db.Database,
        signal: SignalName,
        *,
        calendar: str | None,
        code_version: str | None,
        spool: str | Path | Spool | bool | None,
        patience: float,
    ) -> None:
        self.database = database
        self.uri = database.uri
        strategies.check_name(signal.strategy_id)
        check_text(signal, "Serving")
        if not isinstance(signal.horizon, int) or signal.horizon < 1:
            raise ValueError(f"horizon is {signal.horizon!r}; it counts sessions, 1 or more")
        self._signal = signal
        self._calendar = calendar
        self._code_version = code_version
        self._origins: dict[Any, Origin] = {}
        if not patience > 0:
            raise ValueError(f"patience is {patience!r}; it counts seconds, more than 0")
        self._outbox = Requests(database, storing.Numbers(), spool, patience)

    @property
    def strategy(self) -> str:
        """The strategy.

        Examples
        --------
        >>> live.strategy
        'momentum'
        """
        return self._signal.strategy_id

    def record(
        self,
        entities: str | Sequence[str],
        *,
        output: Any,
        features: Any = None,
        as_of: Any = None,
        event_times: Any = None,
        groups: Any = None,
        model_version: str | None = None,
        request_id: str | None = None,
        latency: timedelta | None = None,
    ) -> Receipt:
        """Record predictions of the caller's own code, together or not at all.

        Parameters
        ----------
        output
            What the model returned, n numbers: in the order of the entities, or by entity. NaN and
            infinities are kept; the monitor counts both as missing.
        features
            What the model was given: any frame with n rows, in the order of the entities or with
            a column `entity_key` (or an index) that names them; for one entity also a mapping of
            names to values. NaN, None and infinities stay distinct.
        event_times
            The moments that the values describe: an aware datetime, or a mapping or frame of these
            by feature. Columns `<feature>__event_time` of the features work too.
        groups
            The group of each entity, for the monitor.
        model_version
            The version that made these predictions, if it is not that of the object.
        latency
            From the call to the output.

        Returns
        -------
        Receipt

        Raises
        ------
        InvalidFrame, InvalidTime, InvalidValue
            Rows do not belong to the entities, a time is naive, a value cannot be kept.
        Contradiction
            The request id, or the output at this `as_of`, is recorded with another content.

        Examples
        --------
        >>> features = {"rsi_14": [61.2, None], "ret_5d": [0.012, float("nan")]}
        >>> receipt = live.record(
        ...     ["AAPL", "MSFT"], features=features, output=[0.4, -0.1], as_of=close,
        ...     request_id="close")
        >>> receipt.is_new
        True
        >>> live.record(
        ...     ["AAPL", "MSFT"], features=features, output=[0.4, -0.1], as_of=close,
        ...     request_id="close")
        Receipt(request_id='close', is_new=False, is_spooled=False)
        """
        names = requests.entity_names(entities)
        times = requests.decision_times(as_of, names)
        requests.refuse_repeated(names, times)
        signal, origin = self._labelled(model_version)
        request = Request(
            signal=signal,
            origin=origin,
            request_id=requests.check_request_id(request_id),
            entities=names,
            as_of=times,
            outputs=requests.read_outputs(output, names),
            cells=no_features(len(names))
            if features is None
            else read_features(features, names, event_times),
            groups=entity_groups(groups, names),
            latency_ms=None if latency is None else latency / timedelta(milliseconds=1),
            calendar=self._calendar,
        )
        return self._store(request)

    def drain(self) -> Drained:
        """Send what waits in the spool now, in order; also what an earlier process left there.

        Returns
        -------
        Drained
            How many requests were sent, were there already, or were refused by the database; the
            latter are in the list of `mlflow-timescale spool status`.

        Raises
        ------
        SpoolBusy
            Another thread or process drains the spool.

        Examples
        --------
        >>> live.drain()
        Drained(sent=0, repeated=0, refused=0)
        """
        return self._outbox.drain()

    def close(self) -> None:
        """Close the connections; the next call opens new ones. What waits keeps waiting.

        Examples
        --------
        >>> live.close()
        """
        self._outbox.close()
        self.database.close()

    def _store(self, request: Request) -> Receipt:
        is_new = self._outbox.send(request)
        return Receipt(request.request_id, is_new is not False, is_new is None)

    def _labelled(self, model_version: str | None) -> tuple[SignalName, Origin]:
        """The signal and origin of predictions of the caller's own code."""
        signal = self._signal
        if model_version is not None:
            check_text(model_version, "model_version")
            signal = replace(signal, model_version=model_version)
        return signal, self._origin()

    def _origin(self, model_uri: str | None = None, checksum: str | None = None) -> Origin:
        code = self._code_version or git.version(Path.cwd())
        packages_now = environment()
        key = (model_uri, checksum, code, *packages_now.items())
        if key not in self._origins:
            self._origins[key] = Origin(model_uri, checksum, code, packages_now)
        return self._origins[key]


def entity_groups(groups: Any, names: Sequence[str]) -> tuple[str, ...] | None:
    if groups is None:
        return None
    check_text(list(groups.values() if isinstance(groups, Mapping) else groups), "groups")
    return tuple(str(group) for group in aligned(groups, names, "groups").tolist())
