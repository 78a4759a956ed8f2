"""Recorders as qlib leaves them, and tables beside them, in folders that no tool prepared."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SESSIONS = pd.bdate_range("2023-01-02", periods=300, name="datetime")
NAMES = pd.Index([f"SH{600000 + number}" for number in range(40)], name="instrument")
INDEX = pd.MultiIndex.from_product([SESSIONS, NAMES])
BREAK = 200  # the session from which a model knows nothing


def model(
    seed: int, *, skill: float = 0.2, after: float | None = 0.0, sessions: int = len(SESSIONS)
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and labels whose correlation changes at session `BREAK`; None keeps it."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(sessions, len(NAMES)))
    late = np.arange(sessions)[:, None] >= BREAK
    known = np.where(late, skill if after is None else after, skill)
    labels = 0.02 * (known * scores + rng.normal(size=scores.shape))
    index = INDEX[: sessions * len(NAMES)]
    return (
        pd.DataFrame({"score": scores.ravel()}, index),
        pd.DataFrame({"LABEL0": labels.ravel()}, index),
    )


def write_files(folder: Path, files: Mapping[str, Any]) -> None:
    """Write artifacts: bytes as they are, all else pickled."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        data = content if isinstance(content, bytes) else pickle.dumps(content, 4)
        (folder / name).write_bytes(data)


def write_run(
    store: Path,
    name: str,
    files: Mapping[str, Any],
    *,
    experiment: str = "alpha158",
    params: Mapping[str, str] | None = None,
) -> str:
    """A run of a file store, as MLflow writes it; returns its id."""
    folder = store / str(1 + sum(experiment.encode()))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta.yaml").write_text(
        f"experiment_id: '{folder.name}'\nname: {experiment}\nlifecycle_stage: active\n"
        f"artifact_location: file:///gone/{folder.name}\n"
    )
    run_id = uuid.uuid5(uuid.NAMESPACE_URL, f"{experiment}/{name}").hex
    run = folder / run_id
    write_files(run / "artifacts", files)
    (run / "meta.yaml").write_text(
        f"run_id: {run_id}\nrun_uuid: {run_id}\nrun_name: {name}\nstatus: 3\n"
        f"experiment_id: '{folder.name}'\nlifecycle_stage: active\nuser_id: ann\n"
        f"artifact_uri: file:///gone/{folder.name}/{run_id}/artifacts\n"
        f"start_time: {1_700_000_000_000 + sum(name.encode())}\nend_time: null\n"
    )
    (run / "params").mkdir()
    for key, value in (params or {}).items():
        (run / "params" / key).write_text(value)
    return run_id


def qlib_files(seed: int, **shape: Any) -> dict[str, Any]:
    """The artifacts of qlib's SignalRecord."""
    scores, labels = model(seed, **shape)
    return {"pred.pkl": scores, "label.pkl": labels}
