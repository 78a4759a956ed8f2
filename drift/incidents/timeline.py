"""Reads which version served in each session, and what the alias pointed at then."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from itertools import groupby
from typing import Any

from mlflow_timescale.common.attribution import who
from mlflow_timescale.db import Connection, load
from mlflow_timescale.db.rows import mappings, records, scalar, scalars

from ..alerts import lifecycle
from ..computation.served_version import METRIC, champion_of
from ..inputs.champions import Champions
from ..results import values
from ..strategies import Strategy
from .versions import (
    AGREES,
    DIFFERS,
    NO_ALIAS,
    NO_VERSION,
    UNKNOWN,
    AliasMove,
    ServedSession,
    ServedVersions,
    intervals,
)

_queries = load("incidents")
_drift = load("drift")
DEFAULT_ALIAS = "champion"
_ALIAS = re.compile(r"@([^@/]+)$")


@dataclass(frozen=True)
class _Signalled:
    """One signal of a session: which model, how many predictions, when last."""

    session: date
    signal_name: str
    horizon: int
    model_name: str
    model_version: str
    predictions: int
    signal_time: datetime

    @property
    def model(self) -> str:
        return f"{self.model_name}/{self.model_version}".strip("/")


def read_versions(
    conn: Connection, strategy: Strategy, start: date, end: date, alias: str | None = None
) -> ServedVersions:
    """The versions served in some sessions, beside an alias of their models.

    Parameters
    ----------
    alias
        By default the one alias by which `Serving` loaded its models, else "champion".
    """
    row = {"strategy_id": strategy.strategy_id, "start": start, "end": end}
    signalled = records(conn, _Signalled, _queries.served_signals, row)
    if alias is None:
        alias = alias_of(scalars(conn, _queries.served_model_uris, row))
    champions = Champions(conn, alias)
    served = list(_sessions(conn, strategy, signalled, champions))
    alerts = [
        alert.session
        for alert in lifecycle.find(conn, strategy.strategy_id)
        if alert.metric == METRIC and alert.session <= end and alert.last_session >= start
    ]
    return ServedVersions(
        strategy.strategy_id,
        start,
        end,
        alias,
        intervals(served),
        tuple(_moves(conn, strategy, served, alias)),
        min(alerts, default=None),
        {session.session: session.ic for session in served},
        dict(Counter(session.outnumbered_by for session in served if session.outnumbered_by)),
    )


def alias_of(model_uris: Iterable[str]) -> str:
    """The one alias that model URIs name, else "champion".

    >>> alias_of(["models:/gbm@live", "models:/gbm/3"]), alias_of(["models:/a@x", "models:/b@y"])
    ('live', 'champion')
    """
    aliases = {match.group(1) for uri in model_uris if (match := _ALIAS.search(uri))}
    return aliases.pop() if len(aliases) == 1 else DEFAULT_ALIAS


def _sessions(
    conn: Connection, strategy: Strategy, signalled: Sequence[_Signalled], champions: Champions
) -> Iterator[ServedSession]:
    if not signalled:
        return
    period = signalled[0].session, signalled[-1].session
    runs = {run.session: run for run in values.runs(conn, strategy.strategy_id, *period)}
    stored = values.of_sessions(conn, strategy.strategy_id, *period, ["ic"], [""])
    ics = {value.session: value.value for value in stored}
    before = ""
    for session, group in groupby(signalled, lambda signal: signal.session):
        signals = list(group)
        judged = _judged(strategy, signals, runs.get(session), champions, before)
        before = judged.model_version or before
        yield _session(judged, signals, ics, champions, strategy)


def _judged(
    strategy: Strategy,
    signals: Sequence[_Signalled],
    run: values.Run | None,
    champions: Champions,
    before: str,
) -> _Signalled:
    """The signal that judged a session; of one that is not computed, the signal that will.

    The order is that of `drift.inputs.signals_and_returns.Judged`.
    """

    def rank(signal: _Signalled) -> tuple[bool, bool, int, bool, int, bool, datetime]:
        champion = champions.at(signal.model_name, signal.signal_time)
        return (
            run is not None
            and (signal.model_name, signal.model_version) == (run.model_name, run.model_version),
            signal.signal_name == strategy.signal
            and strategy.model_name in ("", signal.model_name)
            and strategy.model_version in ("", signal.model_version),
            -signal.horizon,
            champion is not None and champion.names(signal.model_version),
            signal.predictions,
            bool(before) and signal.model_version == before,
            signal.signal_time,
        )

    return max(signals, key=rank)


def _session(
    judged: _Signalled,
    signals: Sequence[_Signalled],
    ics: Mapping[date, float | None],
    champions: Champions,
    strategy: Strategy,
) -> ServedSession:
    champion = champion_of(
        judged.model_name, judged.session, judged.signal_time, champions, strategy.calendar
    )
    if not judged.model_name or not judged.model_version:
        verdict = NO_VERSION
    elif champion is None:
        begin = champions.begin(judged.model_name)
        verdict = UNKNOWN if begin is None or judged.signal_time < begin else NO_ALIAS
    else:
        verdict = AGREES if champion.names(judged.model_version) else DIFFERS
    others = {s.model: s.predictions for s in signals if s.model not in ("", judged.model)}
    largest = max(others, key=lambda model: others[model], default="")
    return ServedSession(
        judged.session,
        judged.model_name,
        judged.model_version,
        None if champion is None else champion.version,
        verdict,
        ics.get(judged.session),
        tuple(sorted(others)),
        largest if others.get(largest, 0) > judged.predictions else "",
    )


def _moves(
    conn: Connection, strategy: Strategy, served: Sequence[ServedSession], alias: str
) -> Iterator[AliasMove]:
    """What the alias of each model pointed at, from the first session that it served on."""
    if not scalar(conn, _drift.registry_history_exists):
        return
    for model in dict.fromkeys(session.model_name for session in served if session.model_name):
        of_model = [session.session for session in served if session.model_name == model]
        start = strategy.calendar.session_open(of_model[0])
        end = strategy.calendar.session_close(of_model[-1])
        is_last = strategy.calendar.last_sessions(1, datetime.now(timezone.utc))[-1] == of_model[-1]
        until = datetime.now(timezone.utc) if is_last else end
        row = {"model": model, "alias": alias, "start": start, "end": until}
        for state in mappings(conn, _queries.alias_states, row):
            yield _move(model, alias, state)


def _move(model: str, alias: str, state: Mapping[str, Any]) -> AliasMove:
    ended = (state["ended_db_user"], state["ended_authenticated"], state["ended_claimed"])
    return AliasMove(
        model,
        alias,
        state["version"],
        state["since"],
        state["until"],
        who(state["db_user"], state["authenticated"], state["claimed"]),
        state["reason"],
        state["is_override"],
        who(*ended) if state["is_removed"] else None,
    )
