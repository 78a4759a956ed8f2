"""Finds a recorded prediction, and the blocks in which its inputs are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from mlflow_timescale.common import packages
from mlflow_timescale.common.micros import MISSING
from mlflow_timescale.common.time import from_micros
from mlflow_timescale.db import Connection, Error, load
from mlflow_timescale.db.rows import records, scalar

from ..results import values
from ..serving import memory
from ..serving.memory import ServedBlock
from ..strategies import Strategy
from .replay import ReplayedInput

_queries = load("incidents")
stored = packages.attribute("feature_store", "values.stored")


class NotPredicted(Error, LookupError):
    """No prediction of an entity is recorded at that time."""


@dataclass(frozen=True)
class Prediction:
    """One row of the judged record."""

    signal_name: str
    horizon: int
    model_name: str
    model_version: str
    session: date
    signal_time: datetime
    signal: float
    recorded_at: datetime


@dataclass(frozen=True)
class Recorded:
    """A prediction, and the blocks of its request at its decision time; no block without memory."""

    prediction: Prediction
    entity: str
    blocks: tuple[ServedBlock, ...]

    @property
    def block(self) -> ServedBlock | None:
        """The block that has the entity."""
        return next((block for block in self.blocks if self.entity in block.rows), None)


def find_recorded(
    conn: Connection,
    strategy: Strategy,
    entity: str,
    at: datetime | None,
    session: date | None,
    version: str | None = None,
) -> Recorded:
    """The last prediction of an entity up to a moment, or in a session.

    Of several versions at once the one that judged the session, unless `version` names one. Raises
    NotPredicted where there is none.
    """
    row = {"strategy_id": strategy.strategy_id, "entity": entity, "at": at, "session": session}
    day = scalar(conn, _queries.last_predicted_session, row)
    predictions: list[Prediction] = []
    if day is not None:
        predictions = records(
            conn, Prediction, _queries.predictions_of_entity, {**row, "session": day}
        )
    if version is not None:
        predictions = [each for each in predictions if each.model_version == version]
    if not predictions:
        when = f" by {at:%Y-%m-%d %H:%M:%S}Z" if at else f" in session {session}" if session else ""
        of = f" by version {version}" if version is not None else ""
        raise NotPredicted(
            f"no prediction of {entity!r}{of} by {strategy.strategy_id!r}{when} is recorded"
        )
    runs = values.runs(conn, strategy.strategy_id, day, day)
    return _with_blocks(conn, strategy, entity, _judged(strategy, predictions, runs))


def _judged(
    strategy: Strategy, predictions: Sequence[Prediction], runs: Sequence[values.Run]
) -> Prediction:
    judged = {(run.model_name, run.model_version) for run in runs}

    def rank(prediction: Prediction) -> tuple[bool, bool, int, datetime]:
        is_signal = prediction.signal_name == strategy.signal
        is_judged = (prediction.model_name, prediction.model_version) in judged
        return is_signal, is_judged, -prediction.horizon, prediction.signal_time

    return max(predictions, key=rank)


def _with_blocks(
    conn: Connection, strategy: Strategy, entity: str, prediction: Prediction
) -> Recorded:
    stored.register(conn)
    day, at = prediction.session, prediction.signal_time
    of_entity = memory.served(conn, strategy.strategy_id, day, day, entity=entity, as_of=at)
    name = prediction.signal_name, prediction.horizon
    version = prediction.model_name, prediction.model_version
    of_signal = [
        block
        for block in of_entity
        if block.as_of == at
        and (block.signal_name, block.horizon) == name
        and (block.model_name, block.model_version) == version
    ]
    if not of_signal:
        return Recorded(prediction, entity, ())
    request = of_signal[-1].request_id
    blocks = memory.served(conn, strategy.strategy_id, day, day, as_of=at, request_id=request)
    return Recorded(prediction, entity, tuple(block for block in blocks if block.as_of == at))


def inputs_of(block: ServedBlock, entity: str) -> tuple[ReplayedInput, ...]:
    """What the model saw of an entity, with event times and ages at the decision."""
    row = block.rows[entity]
    inputs = []
    for column, (name, value) in enumerate(block.features_of(entity).items()):
        micros = int(block.event[row, column])
        event = None if micros == MISSING else from_micros(micros)
        age = None if event is None else block.as_of - event
        version = int(block.feature_versions[column]) or None
        inputs.append(ReplayedInput(name, value, event, age, version))
    return tuple(inputs)
