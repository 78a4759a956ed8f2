"""What the feeds of some sessions look like, name by name, beside the session before each.

The prints of the last sessions computed are stored: the next one is compared with them, and their
features need not be read twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date

import numpy as np

from mlflow_timescale.db import Connection, load

from ..metrics.feed_quality import Prints, Shares, prints, shares, unchanged
from .feature_values import Section

_queries = load("drift")
EARLIER = 3  # sessions with which one is compared: a feed is rarely late by more


class Feeds:
    """The feeds of the sessions of one computation, in order of time."""

    def __init__(self) -> None:
        self._prints: dict[date, dict[str, Prints]] = {}
        self._shares: dict[tuple[date, str], Shares] = {}

    def knows(self, conn: Connection, strategy_id: str, session: date) -> bool:
        """Whether a session's prints are here or in the database; those are read."""
        if session not in self._prints:
            key = {"strategy_id": strategy_id, "session": session}
            rows = conn.execute(_queries.feature_prints, key).fetchall()
            if rows:
                self._prints[session] = {n: np.array(p, dtype=np.int32) for n, p in rows}
        return session in self._prints

    def add(self, session: date, feature: str, section: Section) -> None:
        """Add one feature of one session."""
        session_prints = prints(section.entities, section.known)
        self._prints.setdefault(session, {})[feature] = session_prints
        self._shares[session, feature] = shares(section.values, session_prints, None)

    def of(
        self, session: date, before: date, features: Iterable[str], *, expected: bool
    ) -> dict[str, Shares]:
        """The shares of the features of a session.

        A feature without any value is missing for all names, if any are `expected` to have it.
        """
        current, earlier = self._prints.get(session, {}), self._prints.get(before, {})
        by_feature = {}
        for name in features:
            if (session, name) in self._shares:
                same = unchanged(earlier.get(name), current[name])
                by_feature[name] = replace(self._shares[session, name], unchanged=same)
            elif expected:
                by_feature[name] = Shares(1.0)
        return by_feature

    def repeats(self, session: date, earlier: Sequence[date], feature: str) -> list[float]:
        """The share of names with the value of each of some earlier sessions; NaN if unknown."""
        current = self._prints.get(session, {}).get(feature)
        if current is None:
            return [float("nan")] * len(earlier)
        return [unchanged(self._prints.get(day, {}).get(feature), current) for day in earlier]

    def forget(self, before: date) -> None:
        """Keep no session earlier than this one."""
        self._prints = {day: prints for day, prints in self._prints.items() if day >= before}
        self._shares = {key: shares for key, shares in self._shares.items() if key[0] >= before}

    def save(self, conn: Connection, strategy_id: str) -> None:
        """Store the prints of the last sessions, and delete those that no later session needs."""
        if not self._prints:
            return
        last = max(self._prints)
        rows = [
            {"strategy_id": strategy_id, "session": day, "dimension": name, "prints": p.tolist()}
            for day in sorted(self._prints)[-EARLIER:]
            for name, p in self._prints[day].items()
        ]
        with conn.cursor() as cursor:
            cursor.executemany(_queries.save_feature_prints, rows)
        conn.execute(_queries.drop_feature_prints, {"strategy_id": strategy_id, "session": last})
