"""Structures as the database returns them."""

from __future__ import annotations

from typing import Any

from psycopg import Cursor
from psycopg.types.json import set_json_loads

from mlflow_timescale import db
from mlflow_timescale.common.frames import load_json


def json_cursor(conn: db.Connection, **options: Any) -> Cursor[Any]:
    """A cursor that reads JSON with `load_json`, so that large floats stay floats."""
    cursor: Cursor[Any] = conn.cursor(**options)
    set_json_loads(load_json, cursor)
    return cursor
