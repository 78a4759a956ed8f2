"""The history of selected run tags, which triggers write to `mlops.run_tag_history`.

`mlflow-timescale history keep-tag` selects the tags; qlib's `online_status` is one of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH

from mlflow_timescale.common import attribution
from mlflow_timescale.common.errors import InvalidName
from mlflow_timescale.common.time import format_second, require_zone
from mlflow_timescale.db import Connection, Database, DatabaseURI, MigrationError, load
from mlflow_timescale.db.revisions import MIGRATE
from mlflow_timescale.db.rows import scalar

__all__ = ["Kept", "TagState", "keep", "kept", "run_tag_history", "states", "why_unknown"]

_queries = load("tracking")


@dataclass(frozen=True)
class TagState:
    """One value of a tag, with its period, user and reason.

    Attributes
    ----------
    run_id, experiment_id, key, value
        The tag.
    valid_from, valid_to
        The period (aware); `valid_to` is None while the value holds.
    db_user, authenticated_user, claimed_user, reason
        Who set it, and why: the login of the database, the user whom a server authenticated (None
        without), and who the client claims to be.
    ended
        "changed", "deleted" (the tag or its run) or "not kept" (the history was switched off).
    ended_db_user, ended_authenticated_user, ended_claimed_user, ended_reason
        Who ended it, and why; None while it holds.
    """

    run_id: str
    experiment_id: int | None
    key: str
    value: str | None
    valid_from: datetime
    valid_to: datetime | None
    db_user: str
    authenticated_user: str | None
    claimed_user: str | None
    reason: str | None
    ended: str | None
    ended_db_user: str | None
    ended_authenticated_user: str | None
    ended_claimed_user: str | None
    ended_reason: str | None

    @property
    def by(self) -> str:
        """The user who set the value, for display; a name that is only claimed is marked."""
        return attribution.who(self.db_user, self.authenticated_user, self.claimed_user)

    def as_dict(self) -> dict[str, Any]:
        """The fields for JSON; times in ISO 8601."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Kept:
    """A tag whose history is kept from `since` to `until`, which is None while it is kept."""

    name: str
    since: datetime
    until: datetime | None
    db_user: str

    def covers(self, moment: datetime) -> bool:
        """Whether the history is known at a moment."""
        return self.since <= moment and (self.until is None or moment < self.until)


def run_tag_history(uri: str | DatabaseURI, run_id: str, key: str | None = None) -> list[TagState]:
    """The values that the kept tags of a run had, the oldest first.

    Parameters
    ----------
    uri
        The database, as `mlflow.set_tracking_uri` takes it; not a tracking server's URL.
    run_id
        The run, which may have been deleted since.
    key
        One tag; None for all tags with a history.

    Returns
    -------
    list of TagState

    Examples
    --------
    >>> import mlflow
    >>> mlflow.set_tracking_uri(uri)
    >>> with mlflow.start_run() as run:
    ...     _ = mlflow.set_tag("online_status", "online")
    ...     _ = mlflow.set_tag("online_status", "offline")
    >>> [state.value for state in run_tag_history(uri, run.info.run_id)]
    ['online', 'offline']
    """
    with Database.of(uri, application="history", translate=True).connection() as conn:
        return states(conn, run_id=run_id, key=key)


def states(
    conn: Connection,
    *,
    run_id: str | None = None,
    experiment_id: int | None = None,
    key: str | None = None,
    as_of: datetime | None = None,
) -> list[TagState]:
    """The states of tags, the oldest first; with `as_of`, only those that held at that moment.

    A tag that changes at T has its new value from T on, T included. Raises InvalidTime for a time
    without a zone, MigrationError if the schema has no history of tags.
    """
    _require(conn)
    values = {
        "run_id": run_id,
        "experiment_id": experiment_id,
        "key": key,
        "as_of": require_zone(as_of, "as_of") if as_of else None,
    }
    return [TagState(*row) for row in conn.execute(_queries.tag_history, values)]


def kept(conn: Connection) -> list[Kept]:
    """The tags whose history is or was kept. Raises MigrationError as `states` does."""
    _require(conn)
    return [Kept(*row) for row in conn.execute(_queries.kept_tags)]


def keep(conn: Connection, key: str, *, keeps: bool = True) -> bool:
    """Start or stop keeping the history of a tag; False if nothing changed.

    Recorded states stay. Raises MigrationError as `states` does, InvalidName for a key that no tag
    can have.
    """
    _require(conn)
    if keeps and not key.strip():
        raise InvalidName(f"no tag has the key {key!r}: give a key such as online_status")
    if keeps and len(key) > MAX_ENTITY_KEY_LENGTH:
        raise InvalidName(
            f"no tag has a key of {len(key):,} characters: MLflow takes {MAX_ENTITY_KEY_LENGTH}"
        )
    return bool(scalar(conn, _queries.keep_tag, {"key": key, "kept": keeps}))


def why_unknown(periods: Iterable[Kept], name: str, moment: datetime) -> str:
    """The reason why a tag is not known at a moment; "" if it is.

    Parameters
    ----------
    periods
        As `kept` returns them.
    name
        The key.
    moment
        Aware.

    Examples
    --------
    >>> why_unknown([], "online_status", datetime.fromisoformat("2024-01-12T21:00Z"))
    'no history of the tag online_status is kept'
    """
    of_tag = [period for period in periods if period.name == name]
    if any(period.covers(moment) for period in of_tag):
        return ""
    if not of_tag:
        return f"no history of the tag {name} is kept"
    first = min(of_tag, key=lambda period: period.since)
    if moment < first.since:
        return f"the history of the tag {name} begins on {format_second(first.since)}"
    ended = max(p.until for p in of_tag if p.until is not None and p.until <= moment)
    later = min((p.since for p in of_tag if p.since > moment), default=None)
    end = f" until {format_second(later)}" if later else " on"
    return f"no history of the tag {name} was kept then, from {format_second(ended)}{end}"


def _require(conn: Connection) -> None:
    if not scalar(conn, _queries.has_kept_tags):
        raise MigrationError(
            f"this database keeps no history of tags yet: its administrator runs `{MIGRATE}` once"
        )
