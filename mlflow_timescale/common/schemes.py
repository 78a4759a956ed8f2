"""The URI schemes of our databases. Loaded by `import mlflow`: imports nothing."""

from __future__ import annotations

OURS = ("postgresql+timescaledb:", "timescaledb:", "timescaledb+embedded:")


def is_ours(uri: str | None) -> bool:
    """Whether a URI names a database of ours.

    >>> is_ours("postgresql+timescaledb://ann@db.example/trading"), is_ours("postgresql://db/x")
    (True, False)
    """
    return bool(uri) and str(uri).startswith(OURS)
