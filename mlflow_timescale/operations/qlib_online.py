"""The recorders of qlib that were online at a moment, with their predictions and later changes.

qlib marks a recorder by the run tag `online_status`, whose history the database keeps, and its
updater overwrites `pred.pkl`, whose former bytes the database keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pyarrow as pa

from mlflow_timescale import db
from mlflow_timescale.artifacts import versions
from mlflow_timescale.artifacts.versions import Version
from mlflow_timescale.common.errors import did_you_mean
from mlflow_timescale.common.frames import InvalidFrame
from mlflow_timescale.common.time import format_second, require_zone
from mlflow_timescale.db import rows
from mlflow_timescale.operations.qlib_predictions import (
    Predictions,
    SessionChange,
    changes_between,
    read_predictions,
)
from mlflow_timescale.tracking import tag_history
from mlflow_timescale.tracking.tag_history import TagState

__all__ = ["OnlineAnswer", "OnlineRecorder", "qlib_online", "summary"]

TAG, ONLINE = "online_status", "online"  # qlib.workflow.online.utils.OnlineTool
PREDICTIONS = "pred.pkl"
_TYPES = (pa.string(), pa.timestamp("us"), pa.string(), pa.float64())
_queries = db.load("tracking")
_metric_queries = db.load("metric_table")


@dataclass(frozen=True)
class OnlineRecorder:
    """A recorder that was online at a moment.

    Attributes
    ----------
    run_id, name
        The recorder; `name` is empty if the run was deleted permanently.
    state
        The period in which it was online, and the user who marked it.
    version
        The version of its predictions at the moment; None if it had none.
    present
        The present version; None if it has none.
    predictions
        The scores as of the moment; None if they are not known.
    problem
        The reason why the predictions cannot be shown, or compared with the present ones; "" if
        they can.
    changes
        The sessions, in order, whose predictions differ in the present version. Later sessions than
        the last one of the moment do not count.
    """

    run_id: str
    name: str
    state: TagState
    version: Version | None
    present: Version | None
    predictions: Predictions | None = None
    problem: str = ""
    changes: tuple[SessionChange, ...] = ()

    @property
    def past_changed(self) -> bool | None:
        """Whether predictions differ in the present version; None if that is not known."""
        if self.version is None or self.problem:
            return None
        return bool(self.changes)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "run_id": self.run_id,
            "name": self.name,
            "state": self.state.as_dict(),
            "then": self.version.as_dict() if self.version else None,
            "present": self.present.as_dict() if self.present else None,
            "rows": None if self.predictions is None else len(self.predictions),
            "sessions": None if self.predictions is None else self.predictions.sessions,
            "past_changed": self.past_changed,
            "changes": [asdict(change) for change in self.changes],
            "problem": self.problem,
        }


@dataclass(frozen=True)
class OnlineAnswer:
    """The recorders that were online at a moment.

    Attributes
    ----------
    unknown
        The reason why they are not known, or not for certain; "" if they are.
    """

    experiment: str
    moment: datetime
    recorders: tuple[OnlineRecorder, ...]
    unknown: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "experiment": self.experiment,
            "moment": self.moment.isoformat(),
            "unknown": self.unknown,
            "recorders": [recorder.as_dict() for recorder in self.recorders],
        }

    def table(self) -> pa.Table:
        """The predictions of all recorders: columns run_id, datetime, instrument and score."""
        scored = [(r.run_id, r.predictions) for r in self.recorders if r.predictions]
        columns = {
            "run_id": [np.repeat(run_id, len(part)) for run_id, part in scored],
            "datetime": [part.times for _, part in scored],
            "instrument": [part.instruments for _, part in scored],
            "score": [part.scores for _, part in scored],
        }
        return pa.table(
            {
                name: pa.chunked_array([pa.array(part, kind) for part in parts], kind)
                for (name, parts), kind in zip(columns.items(), _TYPES, strict=True)
            }
        )


def qlib_online(
    uri: str | db.DatabaseURI, experiment: str, moment: datetime, *, path: str = PREDICTIONS
) -> OnlineAnswer:
    """The recorders of qlib that were online at a moment, with their predictions as of it.

    Parameters
    ----------
    uri
        The database, as `mlflow.set_tracking_uri` takes it; not a tracking server's URL.
    experiment
        The name or id of the experiment.
    moment
        Aware.
    path
        The artifact with the predictions.

    Returns
    -------
    OnlineAnswer

    Raises
    ------
    LookupError
        There is no such experiment.
    InvalidTime
        The moment has no time zone.

    Examples
    --------
    >>> import mlflow
    >>> from datetime import timezone
    >>> mlflow.set_tracking_uri(uri)
    >>> with mlflow.start_run() as run:
    ...     _ = mlflow.set_tag("online_status", "online")
    >>> answer = qlib_online(uri, "Default", datetime.now(timezone.utc))
    >>> answer.recorders[0].run_id == run.info.run_id, answer.unknown
    (True, '')
    """
    require_zone(moment, "moment")
    database = db.Database.of(uri, application="qlib", translate=True)
    with database.connection() as conn:
        online = [
            state
            for experiment_id in _experiments(conn, experiment)
            for state in tag_history.states(
                conn, experiment_id=experiment_id, key=TAG, as_of=moment
            )
            if state.value == ONLINE
        ]
        run_ids = [state.run_id for state in online]
        names = rows.pairs(conn, _queries.run_names, {"run_ids": run_ids})
        recorders = tuple(
            _recorder(conn, state, names.get(state.run_id) or "", path, moment) for state in online
        )
        unknown = _why_unknown(conn, moment)
    return OnlineAnswer(experiment, moment, recorders, unknown)


def _why_unknown(conn: db.Connection, moment: datetime) -> str:
    if moment > datetime.now(timezone.utc):
        return "that time has not come"
    return tag_history.why_unknown(tag_history.kept(conn), TAG, moment)


def _experiments(conn: db.Connection, name: str) -> list[int]:
    """The ids of experiments with a name, one for each workspace, or of the one with an id."""
    ids = rows.scalars(conn, _metric_queries.experiments_named, {"experiment": name})
    if not ids:
        names = rows.scalars(conn, _queries.experiment_names)
        raise LookupError(f"there is no experiment {name!r}{did_you_mean(name, names)}")
    return ids


def _recorder(
    conn: db.Connection, state: TagState, name: str, path: str, moment: datetime
) -> OnlineRecorder:
    history = versions.versions(conn, state.run_id, path)
    version = versions.version_at(history, moment)
    present = next((v for v in reversed(history) if v.ended_at is None), None)
    comparison = (
        {"problem": f"it had no {path} then"}
        if version is None
        else _comparison(conn, version, present, path)
    )
    return OnlineRecorder(state.run_id, name, state, version, present, **comparison)


def _comparison(
    conn: db.Connection, version: Version, present: Version | None, path: str
) -> Mapping[str, Any]:
    """The predictions of a version, and the differing sessions of the present one or a problem."""
    if not version.is_stored:
        return {"problem": _not_kept(version, present)}
    then = None
    try:
        then = read_predictions(versions.read(conn, version), path)
        if present is None:
            return {"predictions": then, "problem": f"{path} is deleted now"}
        if present.fingerprint == version.fingerprint:
            return {"predictions": then}
        if not present.is_stored:
            problem = f"the present {path} is not in the database, so the two cannot be compared"
            return {"predictions": then, "problem": problem}
        now = read_predictions(versions.read(conn, present), path)
    except InvalidFrame as exc:
        return {"predictions": then, "problem": str(exc)}
    return {"predictions": then, "changes": changes_between(then, now)}


def _not_kept(version: Version, present: Version | None) -> str:
    if present is not None and present.fingerprint == version.fingerprint:
        return "its bytes are not in the database; those of now have the same SHA-256"
    return "its bytes were not kept; its SHA-256 is known, and the present file has another"


def summary(recorder: OnlineRecorder) -> Iterator[str]:
    """Lines of text on the predictions of a recorder and their changes."""
    version = recorder.version
    if version is not None:
        content = ""
        predictions = recorder.predictions
        if predictions is not None and (span := predictions.sessions):
            content = f": {len(predictions):,} predictions, {span[0]} to {span[1]}"
        yield f"{version.fingerprint}, logged {format_second(version.logged_at)}{content}"
    if recorder.problem:
        yield recorder.problem
    elif recorder.changes:
        yield f"the past has changed since, in {len(recorder.changes):,} sessions:"
        for change in recorder.changes:
            counts = {"changed": change.changed, "removed": change.removed, "added": change.added}
            text = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
            yield f"  {change.session}: {text}"
    else:
        yield "the past is unchanged: every prediction of then is the same now"
