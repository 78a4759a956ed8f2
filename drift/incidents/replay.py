"""One recorded prediction made again: the inputs as they were, the model that made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

__all__ = ["OUTCOMES", "Replay", "ReplayedInput"]

# What a replay comes to, and what that means.
OUTCOMES = {
    "agrees": "the model gives the recorded output",
    "agrees in its request": "the output depends on the other rows of its request",
    "differs": "the model gives another output",
    "refused": "the model was not run",
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
    request_id, request_size
        The request, and its number of entities.
    signal_name, model_name, model_version, model_uri
        The signal, and the version as it was recorded.
    checksum, code_version
        SHA-256 of the model's files and the code version as they were recorded; None if not.
    source
        "store" if serving read the feature store, "caller" for values of the caller's code.
    inputs
        In the order of the model's columns.
    recorded
        The recorded output.
    alone, in_request
        The output of the model for this row alone, and for the whole request; None where the model
        was not run so.
    tolerance
        The largest relative difference that agrees.
    outcome, reason
        A key of `OUTCOMES`, and why it is so; "" where nothing is to be said.
    packages
        Packages with another version than then: "then" and "now" by name.
    """

    strategy_id: str
    entity: str
    session: date
    as_of: datetime
    recorded_at: datetime
    request_id: str
    request_size: int
    signal_name: str
    model_name: str
    model_version: str
    model_uri: str | None
    checksum: str | None
    code_version: str | None
    source: str
    inputs: tuple[ReplayedInput, ...]
    recorded: float
    alone: float | None
    in_request: float | None
    tolerance: float
    outcome: str
    reason: str = ""
    packages: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether the model gives the recorded output."""
        return self.outcome.startswith("agrees")

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**asdict(self), "agrees": self.agrees}

    def lines(self) -> list[str]:
        """The answer in sentences, without the table of inputs."""
        return [f"{self.outcome}: {self.reason or OUTCOMES[self.outcome]}"]
