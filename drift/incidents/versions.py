"""Which version served in each session, beside the version that the alias pointed at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from itertools import groupby
from typing import Any

from ..skew.sentences import counted
from .text import aligned

__all__ = ["AliasMove", "ServedInterval", "ServedSession", "ServedVersions", "intervals"]

AGREES, DIFFERS, UNKNOWN = "agrees", "differs", "unknown"
NO_ALIAS, NO_VERSION = "no alias", "no version"


@dataclass(frozen=True)
class ServedSession:
    """What served in one session.

    Attributes
    ----------
    session
        Its date.
    model_name, model_version
        The judged model, as the predictions name it; "" where they do not.
    alias_version
        The version that the alias pointed at when the session signalled; None where that is not
        known.
    verdict
        "agrees"; "differs"; "unknown", before the history of the alias begins; "no alias", where it
        pointed at nothing; "no version", where the predictions name none.
    ic
        The rank IC of the session; None where it is not known.
    beside
        Other versions that served in the session, such as "momentum/2".
    outnumbered_by
        The one of them that made more predictions than the judged one; "" for none.
    """

    session: date
    model_name: str
    model_version: str
    alias_version: int | None
    verdict: str
    ic: float | None = None
    beside: tuple[str, ...] = ()
    outnumbered_by: str = ""


@dataclass(frozen=True)
class ServedInterval:
    """Sessions in a row that one version served while the alias pointed at one version.

    Attributes
    ----------
    model_name, model_version, alias_version, verdict, beside
        As of each of its sessions.
    first, last, sessions
        The first and the last session, and how many sessions served.
    mean_ic, n_ic
        The mean rank IC, and of how many sessions; None of none.
    """

    model_name: str
    model_version: str
    alias_version: int | None
    verdict: str
    beside: tuple[str, ...]
    first: date
    last: date
    sessions: int
    mean_ic: float | None
    n_ic: int

    @property
    def served(self) -> str:
        """The version, such as "momentum/1"."""
        return f"{self.model_name}/{self.model_version}".strip("/")


@dataclass(frozen=True)
class AliasMove:
    """One time in which the alias of a model pointed at one version.

    Attributes
    ----------
    model_name, alias, version
        What pointed at what.
    since, until
        The period (aware); `until` is None while it does.
    by, reason
        Who set it, and why; a name that was only claimed is marked as such.
    is_override
        Whether it was set although the version's files did not verify.
    removed_by
        Who removed the alias in the end; None where it moved, or still stands.
    """

    model_name: str
    alias: str
    version: int
    since: datetime
    until: datetime | None
    by: str
    reason: str
    is_override: bool = False
    removed_by: str | None = None


@dataclass(frozen=True)
class ServedVersions:
    """The versions that a strategy served, and what the alias pointed at.

    Attributes
    ----------
    strategy_id, start, end
        The strategy and the range.
    alias
        The alias that served versions are compared with.
    intervals
        In order; without a gap between two, but for sessions in which nothing was served.
    moves
        The states of the alias that touch the range, in order.
    first_alert
        The session of the first alert of a wrong version that was open in the range; None for none.
    ics
        The IC of each session that served; None where it is not known.
    outnumbered
        Versions beside the judged one that made more predictions, and in how many sessions.
    """

    strategy_id: str
    start: date
    end: date
    alias: str
    intervals: tuple[ServedInterval, ...]
    moves: tuple[AliasMove, ...]
    first_alert: date | None = None
    ics: Mapping[date, float | None] = field(default_factory=dict)
    outnumbered: Mapping[str, int] = field(default_factory=dict)

    @property
    def sessions(self) -> int:
        """The sessions that served."""
        return sum(interval.sessions for interval in self.intervals)

    @property
    def differing(self) -> int:
        """The sessions that were served by another version than the alias pointed at."""
        return sum(i.sessions for i in self.intervals if i.verdict == DIFFERS)

    @property
    def agrees(self) -> bool:
        """Whether no session was served by another version than the alias pointed at."""
        return not self.differing

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        counts = {"sessions": self.sessions, "differing": self.differing, "agrees": self.agrees}
        fields = asdict(self)
        del fields["ics"]
        return {**fields, **counts}

    def lines(self) -> list[str]:
        """The answer as text: a table of the intervals, and sentences."""
        return [*_table(self), *self.sentences()]

    def sentences(self) -> list[str]:
        """The answer without the table."""
        return list(_sentences(self))


def intervals(sessions: Iterable[ServedSession]) -> tuple[ServedInterval, ...]:
    """Sessions in order, joined where nothing but the date and the IC changes.

    >>> day = date(2024, 4, 17)
    >>> served = [ServedSession(day, "gbm", "1", 1, AGREES, ic) for ic in (0.04, None, 0.08)]
    >>> [joined] = intervals(served)
    >>> joined.sessions, joined.mean_ic, joined.n_ic
    (3, 0.06, 2)
    """

    def alike(session: ServedSession) -> tuple[Any, ...]:
        model = session.model_name, session.model_version
        return (*model, session.alias_version, session.verdict, session.beside)

    return tuple(_joined(list(group)) for _, group in groupby(sessions, alike))


def _joined(group: Sequence[ServedSession]) -> ServedInterval:
    first = group[0]
    ics = [session.ic for session in group if session.ic is not None]
    return ServedInterval(
        first.model_name,
        first.model_version,
        first.alias_version,
        first.verdict,
        first.beside,
        first=first.session,
        last=group[-1].session,
        sessions=len(group),
        mean_ic=sum(ics) / len(ics) if ics else None,
        n_ic=len(ics),
    )


def _table(result: ServedVersions) -> list[str]:
    if not result.intervals:
        return []
    header = ["served", "from", "to", "sessions", result.alias, "", "mean IC", "beside"]
    rows = [header, *(_row(interval) for interval in result.intervals)]
    kept = [column for column in range(len(header)) if any(row[column] for row in rows[1:])]
    return aligned([[row[column] for column in kept] for row in rows], right=[kept.index(3)])


def _row(interval: ServedInterval) -> list[str]:
    alias = interval.verdict if interval.alias_version is None else str(interval.alias_version)
    return [
        interval.served or "no name",
        f"{interval.first}",
        f"{interval.last}",
        f"{interval.sessions:,}",
        alias,
        "<- DIFFERS" if interval.verdict == DIFFERS else "",
        "" if interval.mean_ic is None else f"{interval.mean_ic:+.3f}",
        ", ".join(interval.beside),
    ]


def _sentences(result: ServedVersions) -> Iterator[str]:
    if not result.intervals:
        yield "Nothing was served in these sessions."
        return
    yield _verdict(result)
    unknown = sum(i.sessions for i in result.intervals if i.verdict == UNKNOWN)
    if unknown:
        yield (
            f"{counted(unknown, 'session')} cannot be compared: the registry's history of "
            f"{result.alias} begins later, or not at all."
        )
    unset = sum(i.sessions for i in result.intervals if i.verdict == NO_ALIAS)
    if unset:
        yield f"{counted(unset, 'session')} served while {result.alias} pointed at no version."
    unnamed = sum(i.sessions for i in result.intervals if i.verdict == NO_VERSION)
    if unnamed:
        yield f"{counted(unnamed, 'session')} served without the name of a version."
    for version, sessions in result.outnumbered.items():
        yield (
            f"{version} made more predictions than the judged version in "
            f"{counted(sessions, 'session')}: a shadow, or what was traded?"
        )
    yield from _moved(result)


def _verdict(result: ServedVersions) -> str:
    compared = [i for i in result.intervals if i.verdict in (AGREES, DIFFERS)]
    if result.differing:
        alert = f" First alert: {result.first_alert}." if result.first_alert else ""
        days = counted(result.differing, "session")
        return f"{days} served by a version that was not {result.alias}.{alert}"
    if not compared:
        return f"No session could be compared with {result.alias}."
    days = counted(sum(i.sessions for i in compared), "session")
    return f"{days} served by the version that was {result.alias}."


def _moved(result: ServedVersions) -> Iterator[str]:
    """Who set the alias before the range, and every move within it."""
    for model in dict.fromkeys(move.model_name for move in result.moves):
        first, *later = [move for move in result.moves if move.model_name == model]
        if not later and first.until is None:
            yield f"{model}@{result.alias} is {first.version}, unchanged since {_who(first)}."
        else:
            yield f"{model}@{result.alias} was {first.version} since {_who(first)}."
        for move in later:
            yield f"{model}@{result.alias} became {move.version} on {_who(move)}."
        for move in (first, *later):
            if move.removed_by is not None:
                when = f"on {_minute(move.until)} by {move.removed_by}"
                yield f"{model}@{result.alias} was removed {when}."


def _who(move: AliasMove) -> str:
    by = f" by {move.by}" if move.by else ""
    override = " (overridden)" if move.is_override else ""
    reason = f": {move.reason}" if move.reason else ""
    return f"{_minute(move.since)}{by}{reason}{override}"


def _minute(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%MZ}"
