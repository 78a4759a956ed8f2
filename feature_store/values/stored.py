"""Values as a connection of the feature store sends and returns them."""

from __future__ import annotations

from psycopg.types.json import set_json_loads

from mlflow_timescale import db
from mlflow_timescale.common.frames import load_json
from mlflow_timescale.db import arrays


def register(conn: db.Connection) -> None:
    """Arrays are numpy arrays, and JSON is read with `load_json`, so that large floats stay floats.

    Once for each connection: a cursor that registers loaders of its own copies all of them.
    """
    arrays.register(conn)
    set_json_loads(load_json, conn)
