"""One recorded prediction made again: the inputs as they were, and the model that made it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from ..skew.sentences import counted
from .text import aligned

__all__ = ["OBSTACLES", "OUTCOMES", "Replay", "ReplayedInput", "changed_packages", "same_output"]

# What a replay comes to, and what that means.
OUTCOMES = {
    "agrees": "the model gives the recorded output",
    "agrees in its request": "the model gives the recorded output for the whole request only",
    "differs": "the model gives another output",
    "refused": "the model was not run",
}
# Why a model was not run, or why its output differs.
OBSTACLES = {
    "own label": "the prediction names no registered version",
    "removed": "retention removed the inputs",
    "not recorded": "the inputs were not recorded",
    "version gone": "the registry no longer has the version",
    "not verified": "the SHA-256 of the model was not recorded",
    "other checksum": "the model's files are not those that served",
    "changed files": "a file of the model differs from the ledger",
    "cannot load": "the model does not load with the packages of today",
    "cannot predict": "the model does not take the recorded inputs",
    "not deterministic": "the model gives another output each time",
}


@dataclass(frozen=True)
class ReplayedInput:
    """One feature value as the model saw it.

    Attributes
    ----------
    feature, value
        Its name, and a float, None (there was no value), a text or a structure.
    event_time, age
        The time that it describes (aware), and its age at the decision; None where not known.
    feature_version
        The version of the feature; None where it is not known.
    """

    feature: str
    value: Any
    event_time: datetime | None = None
    age: timedelta | None = None
    feature_version: int | None = None


@dataclass(frozen=True)
class Replay:
    """A recorded prediction, and what its model gives for the same inputs today.

    Attributes
    ----------
    strategy_id, entity, session
        What was predicted.
    as_of, recorded_at
        The decision time, and when it was recorded (aware).
    signal_name, model_name, model_version
        The signal, and the version as it was recorded.
    recorded
        The recorded output.
    tolerance
        The largest relative difference that agrees.
    outcome
        A key of `OUTCOMES`.
    obstacle, reason
        A key of `OBSTACLES`, "" for none, and the same with its details.
    alone, in_request
        The output of the model for this row alone, and for the whole request; None where the model
        was not run so.
    inputs
        In the order of the model's columns.
    source
        "store" if serving read the feature store, "caller" for values of the caller's code.
    request_id, request_size
        The request, and its number of entities.
    model_uri, checksum, code_version
        The model as the caller named it, SHA-256 of its files and the code version; None if not
        recorded.
    replayed_with
        The version that was run, such as "models:/momentum/1"; "" for none.
    is_verified
        Whether the SHA-256 of its files is the recorded one.
    packages
        Packages with another version than then: that and today's by name; "" for one that is not
        there.
    """

    strategy_id: str
    entity: str
    session: date
    as_of: datetime
    recorded_at: datetime
    signal_name: str
    model_name: str
    model_version: str
    recorded: float
    tolerance: float
    outcome: str = "refused"
    obstacle: str = ""
    reason: str = ""
    alone: float | None = None
    in_request: float | None = None
    inputs: tuple[ReplayedInput, ...] = ()
    source: str = ""
    request_id: str = ""
    request_size: int = 0
    model_uri: str | None = None
    checksum: str | None = None
    code_version: str | None = None
    replayed_with: str = ""
    is_verified: bool = False
    packages: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether the model gives the recorded output."""
        return self.outcome.startswith("agrees")

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**asdict(self), "agrees": self.agrees}

    def lines(self) -> list[str]:
        """The answer as text: the prediction, a table of the inputs, the output."""
        return list(_lines(self))


def same_output(recorded: float, replayed: float, tolerance: float) -> bool:
    """Whether two outputs are equal within a relative tolerance; NaN equals NaN.

    >>> same_output(0.3, 0.1 + 0.2, 1e-9), same_output(0.3, 0.1 + 0.2, 0.0)
    (True, False)
    >>> nan, inf = float("nan"), float("inf")
    >>> same_output(nan, nan, 0.0), same_output(inf, inf, 0.0), same_output(inf, 1.0, 1e-9)
    (True, True, False)
    """
    if recorded == replayed or (recorded != recorded and replayed != replayed):
        return True
    gap, size = abs(recorded - replayed), max(abs(recorded), abs(replayed))
    return size < float("inf") and gap <= tolerance * size


def changed_packages(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The packages of a recorded environment that have another version today.

    >>> changed_packages({"numpy": "1.26", "mlflow": "3.1"}, {"numpy": "2.0", "mlflow": "3.1"})
    {'numpy': ('1.26', '2.0')}
    """
    return {name: (was, now[name]) for name, was in then.items() if now.get(name, was) != was}


def _lines(result: Replay) -> Iterator[str]:
    model = f"{result.model_name}/{result.model_version}".strip("/") or "no model named"
    yield (
        f"{result.strategy_id}  {result.entity}  {result.as_of:%Y-%m-%d %H:%M:%S}Z, session "
        f"{result.session}, {model}"
    )
    yield from _origin(result)
    if result.inputs:
        yield from _table(result)
    yield f"recorded {result.recorded!r}" + _replayed(result)
    yield _verdict(result)
    if result.packages and result.outcome != "agrees":
        listed = ", ".join(f"{name} {then} -> {now}" for name, (then, now) in _changed(result))
        yield f"packages then and now: {listed}"


def _origin(result: Replay) -> Iterator[str]:
    if result.request_id:
        source = "the feature store" if result.source == "store" else "the caller's code"
        yield (
            f"request {result.request_id} of {counted(result.request_size, 'name')}, features from "
            f"{source}" + (f", code {result.code_version[:12]}" if result.code_version else "")
        )
    if result.replayed_with:
        checksum = (result.checksum or "")[:12]
        verified = f", SHA-256 {checksum} verified" if result.is_verified else ""
        yield f"replayed with {result.replayed_with}{verified}"


def _table(result: Replay) -> list[str]:
    header = ["feature", "value", "event time", "age", "version"]
    rows = [header, *(_row(each) for each in result.inputs)]
    kept = [column for column in range(len(header)) if any(row[column] for row in rows[1:])]
    return aligned([[row[column] for column in kept] for row in rows])


def _row(cell: ReplayedInput) -> list[str]:
    return [
        cell.feature,
        "no value" if cell.value is None else f"{cell.value!r}",
        "" if cell.event_time is None else f"{cell.event_time:%Y-%m-%d %H:%M}Z",
        "" if cell.age is None else age_text(cell.age),
        "" if cell.feature_version is None else str(cell.feature_version),
    ]


def age_text(age: timedelta) -> str:
    """An age in days, hours and minutes; negative for an event after the decision.

    >>> age_text(timedelta(days=1, hours=2)), age_text(timedelta(minutes=-30))
    ('1d 2h00', '-0h30')
    """
    minutes = abs(round(age / timedelta(minutes=1)))
    days, rest = divmod(minutes, 1440)
    sign = "-" if age < timedelta(0) else ""
    return sign + (f"{days}d " if days else "") + f"{rest // 60}h{rest % 60:02d}"


def _replayed(result: Replay) -> str:
    parts = []
    if result.alone is not None:
        parts.append(f"replayed {result.alone!r}")
    if result.in_request is not None:
        parts.append(f"within its request {result.in_request!r}")
    return "".join(f", {part}" for part in parts)


def _verdict(result: Replay) -> str:
    if result.outcome == "agrees":
        exact = result.alone is not None and same_output(result.recorded, result.alone, 0.0)
        return "agrees to the bit" if exact else f"agrees within {result.tolerance:g}"
    reason = result.reason or OUTCOMES[result.outcome]
    word = {"refused": "NOT REPLAYED", "differs": "DIFFERS"}.get(result.outcome, result.outcome)
    return f"{word}: {reason}"


def _changed(result: Replay) -> Iterator[tuple[str, tuple[str, str]]]:
    for name, (then, now) in result.packages.items():
        yield name, (then or "none", now or "none")
