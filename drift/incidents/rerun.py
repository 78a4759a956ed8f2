"""Loads the version that made a prediction, verified, and runs it on the recorded inputs."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from mlflow.exceptions import MlflowException

from mlflow_timescale.artifacts.refusals import ArtifactRefused
from mlflow_timescale.db import Connection, Database

from ..serving import memory
from ..serving.cells import FeatureCells
from ..serving.environment import environment
from ..serving.memory import ServedBlock
from ..serving.models import LoadedModel, ModelUnavailable, load_verified, model_input, picked
from ..serving.requests import read_outputs
from .recorded import Recorded, inputs_of
from .replay import OBSTACLES, Replay, changed_packages, same_output

__all__ = ["NotReplayed", "replay"]


class NotReplayed(Exception):
    """The model cannot be run: an obstacle of `OBSTACLES`, and its details."""

    def __init__(self, obstacle: str, details: str = "") -> None:
        super().__init__(f"{OBSTACLES[obstacle]}" + (f": {details}" if details else ""))
        self.obstacle = obstacle


def replay(
    conn: Connection,
    database: Database,
    recorded: Recorded,
    strategy_id: str,
    *,
    tolerance: float,
    model: str | None = None,
    column: str | None = None,
    whole_request: bool = False,
) -> Replay:
    """A recorded prediction made again.

    Parameters
    ----------
    model
        The version to run, such as "models:/momentum/2"; by default the one that served.
    column
        The column of the model's output that is the prediction, where it has several.
    whole_request
        Whether the model is run on the whole request, too; it always is where the row alone gives
        another output.
    """
    result = _described(recorded, strategy_id, tolerance)
    try:
        block = _block(conn, recorded)
        loaded = _load(database, block, model)
        result = replace(
            result,
            replayed_with=f"models:/{loaded.name}/{loaded.version}",
            is_verified=block.checksum is not None and loaded.checksum == block.checksum,
        )
        return _compared(result, recorded, loaded, column, whole_request)
    except NotReplayed as exc:
        return replace(result, outcome="refused", obstacle=exc.obstacle, reason=str(exc))


def _described(recorded: Recorded, strategy_id: str, tolerance: float) -> Replay:
    """The prediction as it was recorded, before anything is run."""
    prediction, block = recorded.prediction, recorded.block
    result = Replay(
        strategy_id,
        recorded.entity,
        prediction.session,
        prediction.signal_time,
        prediction.recorded_at,
        prediction.signal_name,
        prediction.model_name,
        prediction.model_version,
        prediction.signal,
        tolerance,
    )
    if block is None:
        return result
    return replace(
        result,
        recorded=float(block.outputs[block.rows[recorded.entity]]),
        recorded_at=block.recorded_at,
        inputs=inputs_of(block, recorded.entity),
        source=block.source,
        request_id=block.request_id,
        request_size=sum(len(each.entities) for each in recorded.blocks),
        model_uri=block.model_uri,
        checksum=block.checksum,
        code_version=block.code_version,
        packages=changed_packages(block.environment, environment()),
    )


def _block(conn: Connection, recorded: Recorded) -> ServedBlock:
    block, session = recorded.block, recorded.prediction.session
    if block is None:
        before = memory.removed_before(conn)
        if before is not None and session < before:
            raise NotReplayed("removed", f"sessions before {before}; the output is still known")
        raise NotReplayed(
            "not recorded",
            "`record_predictions` keeps outputs alone; record with `mlflow_timescale.Serving`",
        )
    if not block.feature_names:
        raise NotReplayed("not recorded", "the request was recorded without features")
    return block


def _load(database: Database, block: ServedBlock, model: str | None) -> LoadedModel:
    if model is None:
        name = f"{block.model_name}/{block.model_version}".strip("/")
        if block.model_uri is None:
            label = f"{name!r} is a label of the caller's" if name else "it has no label either"
            raise NotReplayed("own label", f"{label}; name a registered one with `model`")
        if block.checksum is None:
            raise NotReplayed("not verified", f"of {name}; name the version with `model`")
    loaded = _loaded(database, model or f"models:/{block.model_name}/{block.model_version}")
    if model is None and loaded.checksum != block.checksum:
        raise NotReplayed(
            "other checksum",
            f"{block.model_name}/{block.model_version} served with {_short(block.checksum)}, the "
            f"ledger has {_short(loaded.checksum)}",
        )
    return loaded


def _short(checksum: str | None) -> str:
    return f"SHA-256 {checksum[:12]}" if checksum else "none"


def _loaded(database: Database, reference: str) -> LoadedModel:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other packages than the model's: listed by us
            return load_verified(database, reference)
    except ModelUnavailable as exc:
        raise NotReplayed("version gone", f"{reference}") from exc
    except ArtifactRefused as exc:
        raise NotReplayed("changed files", exc.message) from exc
    # Unpickling runs the model's own code, which may raise anything.
    except Exception as exc:
        raise NotReplayed("cannot load", _in_one_line(exc)) from exc


def _compared(
    result: Replay, recorded: Recorded, loaded: LoadedModel, column: str | None, whole_request: bool
) -> Replay:
    block = recorded.block
    if block is None:  # checked by `_block`
        return result
    row = block.rows[recorded.entity]
    alone = _run(loaded, [block], column, only=row)[0]
    agrees = same_output(result.recorded, alone, result.tolerance)
    result = replace(result, alone=alone, outcome="agrees" if agrees else "differs")
    if result.request_size > 1 and (whole_request or not agrees):
        result = _with_request(result, recorded, loaded, column)
    if result.outcome == "differs" and not same_output(
        alone, _run(loaded, [block], column, only=row)[0], 0.0
    ):
        obstacle = "not deterministic"
        return replace(result, obstacle=obstacle, reason=OBSTACLES[obstacle])
    return result


def _with_request(
    result: Replay, recorded: Recorded, loaded: LoadedModel, column: str | None
) -> Replay:
    """The result with the output of the whole request, on which a rank across names depends."""
    blocks = [b for b in recorded.blocks if b.feature_names == recorded.blocks[0].feature_names]
    names = [name for block in blocks for name in block.entities]
    outputs = _run(loaded, blocks, column)
    within = outputs[names.index(recorded.entity)]
    outcome, reason = result.outcome, result.reason
    if outcome == "differs" and same_output(result.recorded, within, result.tolerance):
        outcome = "agrees in its request"
        reason = (
            f"the output depends on the other {len(names) - 1} names of its request, such as a "
            f"rank across names; with them it agrees"
        )
    return replace(result, in_request=within, outcome=outcome, reason=reason)


def _run(
    loaded: LoadedModel, blocks: Sequence[ServedBlock], column: str | None, only: int | None = None
) -> list[float]:
    """The outputs of the model for all rows of some blocks, or for one row of one block."""
    names = [name for block in blocks for name in block.entities]
    cells = _cells(blocks)
    if only is not None:
        names, cells = [names[only]], _cell_row(cells, only)
    try:
        output = picked(loaded.model.predict(model_input(loaded, cells, names)), column)
        return [float(value) for value in read_outputs(output, names)]
    except Exception as exc:  # the model's own code may raise anything
        raise NotReplayed("cannot predict", _in_one_line(exc)) from exc


def _cells(blocks: Sequence[ServedBlock]) -> FeatureCells:
    starts = np.cumsum([0, *(len(block.entities) for block in blocks)])
    return FeatureCells(
        blocks[0].feature_names,
        np.concatenate([block.values for block in blocks]),
        np.concatenate([block.absent for block in blocks]),
        {
            (int(start) + row, column): json.dumps(value)
            for start, block in zip(starts, blocks, strict=False)
            for (row, column), value in block.others.items()
        },
    )


def _cell_row(cells: FeatureCells, row: int) -> FeatureCells:
    others = {(0, column): text for (at, column), text in cells.others.items() if at == row}
    part = slice(row, row + 1)
    return FeatureCells(cells.names, cells.values[part], cells.absent[part], others)


def _in_one_line(exc: BaseException) -> str:
    """An error in one line."""
    text = exc.message if isinstance(exc, MlflowException) else str(exc)
    return f"{type(exc).__name__}: " + " ".join(str(text).split())[:300]
