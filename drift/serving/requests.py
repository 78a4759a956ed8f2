"""A request: predictions that are recorded together, or not at all."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mlflow_timescale.common.frames import InvalidFrame
from mlflow_timescale.common.micros import Micros, column_micros, object_micros
from mlflow_timescale.common.text import check_text
from mlflow_timescale.common.time import from_micros, to_micros

from .cells import FeatureCells, Floats, aligned, cell_values, names_of_store

LONGEST_ID = 200  # characters of a request id
_NAMESPACE = uuid.UUID("6f0f4c3e-4f0e-5f53-9d41-6f2b6c1a7d10")  # of the requests of all strategies


@dataclass(frozen=True)
class Origin:
    """What ran: the model's URI and SHA-256, the code version, the packages.

    >>> Origin(model_uri="models:/momentum/3").checksum is None
    True
    """

    model_uri: str | None = None
    checksum: str | None = None
    code_version: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def content(self) -> uuid.UUID:
        """The same for the same origin."""
        return _uuid([self.model_uri, self.checksum, self.code_version, dict(self.environment)])


@dataclass(frozen=True)
class SignalName:
    """What the predictions are of: the key of the monitor's signals."""

    strategy_id: str
    signal: str = "signal"
    horizon: int = 1
    model_name: str = ""
    model_version: str = ""


@dataclass(frozen=True)
class Request:
    """Predictions of n entities with m features, checked; arrays as in `FeatureCells`.

    `as_of` holds the decision times in microseconds, shape (n,); `source` is "store" where the
    features were read from the feature store, with the arguments in `reading`, else "caller".
    """

    signal: SignalName
    origin: Origin
    request_id: str
    entities: tuple[str, ...]
    as_of: Micros
    outputs: Floats
    cells: FeatureCells
    source: str = "caller"
    reading: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] | None = None
    latency_ms: float | None = None
    calendar: str | None = None

    @property
    def key(self) -> uuid.UUID:
        """The request's key in mlops.requests."""
        return uuid.uuid5(_NAMESPACE, f"{self.signal.strategy_id}\0{self.request_id}")

    @property
    def content(self) -> int:
        """A hash of what was predicted, from what; 64 bits, signed as PostgreSQL's bigint."""
        cells, signal = self.cells, self.signal
        sha = hashlib.sha256()
        named = [signal.strategy_id, signal.signal, signal.horizon, signal.model_name]
        sha.update(json.dumps([*named, signal.model_version, self.entities, cells.names]).encode())
        arrays = (self.as_of, self.outputs, cells.values, cells.absent)
        for array in arrays:
            sha.update(np.ascontiguousarray(array).tobytes())
        sha.update(json.dumps(sorted((*at, text) for at, text in cells.others.items())).encode())
        return int.from_bytes(sha.digest()[:8], "big", signed=True)


def new_request_id() -> str:
    """A request id that no other request has.

    >>> len(new_request_id())
    32
    """
    return uuid.uuid4().hex


def check_request_id(request_id: str | None) -> str:
    """The caller's request id, or a new one. Raises ValueError for one that is empty or too long.

    >>> check_request_id("2024-04-18 close")
    '2024-04-18 close'
    """
    if request_id is None:
        return new_request_id()
    if not isinstance(request_id, str) or not 0 < len(request_id) <= LONGEST_ID:
        raise ValueError(f"request_id {request_id!r} is no text of 1 to {LONGEST_ID} characters")
    check_text(request_id, "request_id")
    return request_id


def decision_times(as_of: Any, entities: Sequence[str]) -> Micros:
    """Decision times in microseconds, shape (n,): now, one aware datetime, or one for each entity.

    Raises InvalidTime for a naive datetime.

    >>> decision_times(datetime(2024, 1, 2, tzinfo=timezone.utc), ["AAPL"]).tolist()
    [1704153600000000]
    """
    if as_of is None:
        as_of = datetime.now(timezone.utc)
    if isinstance(as_of, datetime):
        return np.full(len(entities), to_micros(as_of, "as_of"), dtype=np.int64)
    column = aligned(as_of, entities, "as_of")
    if isinstance(column, np.ndarray):
        return object_micros(column, "as_of")
    return column_micros(column, "as_of")


def entity_names(entities: Any) -> tuple[str, ...]:
    """One name or several as a tuple. Raises InvalidName for what is no text.

    >>> entity_names("AAPL")
    ('AAPL',)
    """
    names: list[str] = names_of_store.entity_keys(
        entities.tolist() if hasattr(entities, "tolist") else entities
    )
    names_of_store.check_names(names, "entity_key")
    return tuple(names)


def refuse_repeated(entities: Sequence[str], as_of: Micros) -> None:
    """Raise InvalidFrame for an entity that occurs twice with one decision time."""
    counts = Counter(zip(entities, as_of.tolist(), strict=True))
    if len(counts) < len(entities):
        [((name, time), _)] = counts.most_common(1)
        raise InvalidFrame(
            f"entity {name!r} occurs more than once with as_of {from_micros(time)}: a request has "
            f"one prediction for each entity and decision time"
        )


def read_outputs(output: Any, entities: Sequence[str]) -> Floats:
    """The outputs of a model as float64, shape (n,). NaN is an output, and so is an infinity.

    Raises InvalidFrame where an output is missing, InvalidValue for what is no number.

    >>> read_outputs([0.12, -0.5], ["AAPL", "MSFT"]).tolist()
    [0.12, -0.5]
    """
    if np.ndim(output) == 0 and not isinstance(output, Mapping):
        output = [output]
    if isinstance(output, np.ndarray) and output.ndim == 2 and output.shape[1] == 1:
        output = output[:, 0]
    if type(output).__name__ == "DataFrame":
        output = _only_column(output)
    values = cell_values(aligned(output, entities, "output"), "output")
    if values.json is not None or not values.present.all():
        row = int(np.argmin(values.present)) if values.json is None else 0
        raise InvalidFrame(
            f"output of {entities[row]!r} is no number; give NaN where the model gave none"
        )
    numbers: Floats = values.number
    return numbers


def _only_column(frame: Any) -> Any:
    columns = list(frame.columns)
    if len(columns) != 1:
        raise InvalidFrame(f"output has the columns {columns}; give the one that is the prediction")
    return frame[columns[0]]


def _uuid(content: Any) -> uuid.UUID:
    return uuid.uuid5(_NAMESPACE, json.dumps(content, sort_keys=True))


def feature_set_content(
    names: Sequence[str], versions: Sequence[int], source: str, reading: Mapping[str, str]
) -> uuid.UUID:
    """The same for the same set of features, read in the same way."""
    return _uuid([list(names), list(versions), source, dict(reading)])


Versions = npt.NDArray[np.int32]
