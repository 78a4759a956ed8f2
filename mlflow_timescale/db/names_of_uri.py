"""The names under which constructors accept a database: `uri`, `conninfo`, `dsn`."""

from __future__ import annotations

from typing import TypeVar

Given = TypeVar("Given")


def one_of(uri: Given | None, conninfo: str | None, dsn: str | None) -> Given | str:
    """The database of a constructor, which accepts it under three names.

    Parameters
    ----------
    uri, conninfo, dsn
        The database under the name of this project, of psycopg 3 and of psycopg 2: one of them.

    Raises
    ------
    TypeError
        None of them is given, or several.

    Examples
    --------
    >>> one_of(None, "timescaledb://localhost/trading", None)
    'timescaledb://localhost/trading'
    """
    given: dict[str, Given | str | None] = {"uri": uri, "conninfo": conninfo, "dsn": dsn}
    values = {name: value for name, value in given.items() if value is not None}
    if len(values) != 1:
        names = " and ".join(values) or "none"
        raise TypeError(f"give the database once, as uri, conninfo or dsn; got {names}")
    return next(iter(values.values()))
