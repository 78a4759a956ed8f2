"""The history of the model registry: rows that triggers write to `mlops.registry_history`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psycopg
from mlflow.exceptions import MlflowException
from psycopg.rows import TupleRow

from mlflow_timescale.common import attribution
from mlflow_timescale.common.time import require_zone
from mlflow_timescale.db import load
from mlflow_timescale.registry.near_names import unknown_model

_queries = load("registry")
DEFAULT_WORKSPACE = "default"


def active_workspace() -> str:
    """The workspace that MLflow works in: the default one, unless workspaces are enabled."""
    from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES
    from mlflow.utils.workspace_context import get_request_workspace

    active = get_request_workspace() if MLFLOW_ENABLE_WORKSPACES.get() else None
    return active or DEFAULT_WORKSPACE


@dataclass(frozen=True)
class Change:
    """One state of an alias, stage, version, tag or model, with its period, user and reason.

    Attributes
    ----------
    workspace, name
        The registered model.
    kind, subject
        What has the state: "model"; "version" and its number; "alias" and its name; "stage" and
        the version; "tag" and "version/key".
    version, value, detail
        The state; None or empty where it does not apply.
    valid_from, valid_to
        The period (aware); `valid_to` is None while the state holds.
    db_user, authenticated_user, claimed_user, reason
        Who began the state, and why: the login of the database, the user whom a server
        authenticated (None without), and who the client claims to be.
    mlflow_user
        The authenticated user, or without one the claimed one.
    ended, ended_db_user, ended_mlflow_user, ended_reason
    ended_authenticated_user, ended_claimed_user
        How the state ended, by whom, and why; None while it holds.
    """

    workspace: str
    name: str
    kind: str
    subject: str
    version: int | None
    value: str | None
    detail: dict[str, Any]
    valid_from: datetime
    valid_to: datetime | None
    db_user: str
    mlflow_user: str | None
    reason: str | None
    ended: str | None
    ended_db_user: str | None
    ended_mlflow_user: str | None
    ended_reason: str | None
    authenticated_user: str | None = None
    claimed_user: str | None = None
    ended_authenticated_user: str | None = None
    ended_claimed_user: str | None = None

    @property
    def by(self) -> str:
        """Who began the state, as people read it: a name that was only claimed is marked."""
        claimed = self.claimed_user or (None if self.authenticated_user else self.mlflow_user)
        return attribution.who(self.db_user, self.authenticated_user, claimed)

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Change:
        return cls(*row)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: times in ISO 8601."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in asdict(self).items()
        }


def history(
    conn: psycopg.Connection[TupleRow],
    name: str,
    *,
    kind: str | None = None,
    subject: str | None = None,
    as_of: datetime | None = None,
    workspace: str | None = None,
) -> list[Change]:
    """The states of a model, oldest first, including those under its earlier names.

    With `as_of` only the states that held at that moment. `workspace` defaults to the active one.
    Raises InvalidTime for a time without a time zone.
    """
    values = {
        "name": name,
        "kind": kind,
        "subject": subject,
        "as_of": require_zone(as_of, "as_of") if as_of else None,
        "workspace": workspace or active_workspace(),
    }
    return [Change.from_row(row) for row in conn.execute(_queries.history, values)]


def unknown(
    conn: psycopg.Connection[TupleRow], name: str, *, workspace: str | None = None
) -> MlflowException | None:
    """The error for a model that neither exists nor has a history; None where one is on record."""
    space = workspace or active_workspace()
    if history(conn, name, workspace=space):
        return None
    names = [row[0] for row in conn.execute(_queries.model_names, {"workspace": space})]
    return None if name in names else unknown_model(name, names)


def version_at(
    conn: psycopg.Connection[TupleRow],
    name: str,
    alias: str,
    as_of: datetime,
    *,
    workspace: str | None = None,
) -> Change | None:
    """The state of an alias at a moment; None if it was not set.

    An alias that moves at T points at the new version from T on, T included.
    """
    states = history(conn, name, kind="alias", subject=alias, as_of=as_of, workspace=workspace)
    return states[-1] if states else None


def previous_version(history: list[int], existing: set[int]) -> int | None:
    """The version that a rollback of an alias restores; None if there is no earlier one.

    Moves form a stack: a move to the version below the top is a return, and pops the top.

    Parameters
    ----------
    history
        The versions that the alias pointed at, oldest first.
    existing
        The versions that still exist.

    Examples
    --------
    >>> previous_version([1, 2, 3], {1, 2, 3})
    2
    >>> previous_version([1, 2, 3, 2], {1, 2, 3})
    1
    >>> previous_version([1, 2, 3], {1, 3})
    1
    """
    stack: list[int] = []
    for version in history:
        if stack and stack[-1] == version:
            continue
        if len(stack) > 1 and stack[-2] == version:
            stack.pop()
        else:
            stack.append(version)
    current = stack[-1:]
    earlier = [version for version in stack[:-1] if version in existing and [version] != current]
    return earlier[-1] if earlier else None
