"""The messages of one strategy: queued with its alerts, sent when its results are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import psycopg

from mlflow_timescale.db import Connection, Database, Error, is_rehearsal, load

from . import deliveries, lifecycle, registry_webhooks, targets
from .deliveries import Target
from .lifecycle import Alert
from .notify import Message

_queries = load("drift")


@dataclass(frozen=True)
class Messages:
    """The messages of a strategy, and the targets of the process that computes it."""

    database: Database
    strategy_id: str
    targets: tuple[Target, ...]

    def queue(self, conn: Connection, session: date) -> None:
        """Queue the message on alerts that opened or resolved, in the transaction that did it."""
        if not deliveries.exist(conn):
            return  # `deliver` sends what is pending
        if pending := lifecycle.to_notify(conn, self.strategy_id):
            message = self._message(conn, session, pending)
            labels = targets.labels_for(conn, self.database.uri, self.targets, message)
            deliveries.queue(conn, message, labels)
            lifecycle.mark_notified(conn, self.strategy_id, pending)

    def deliver(self, session: date) -> None:
        """Send what waits for the targets; what fails is logged, and waits for the next run.

        It has a connection of its own, which a server may close while a receiver is slow.
        """
        if is_rehearsal():
            return
        try:
            with self.database.connection() as conn:
                if deliveries.exist(conn):
                    hooks = registry_webhooks.targets(conn, self.database.uri)
                    deliveries.deliver(conn, (*self.targets, *hooks), self.strategy_id)
                else:
                    self._deliver_without_outbox(conn, session)
        except (Error, psycopg.Error) as exc:
            deliveries.logger.warning("messages wait for the next run: %s", exc)

    def _deliver_without_outbox(self, conn: Connection, session: date) -> None:
        """Send the pending message to all targets, in a database that an older version migrated."""
        pending = lifecycle.to_notify(conn, self.strategy_id)
        if not pending:
            return
        message = self._message(conn, session, pending)
        taken = [deliveries.sent(target, message) for target in self.targets]  # each is tried
        if all(taken):
            lifecycle.mark_notified(conn, self.strategy_id, pending)

    def _message(self, conn: Connection, session: date, pending: Sequence[Alert]) -> Message:
        row = {"strategy_id": self.strategy_id, "session": session}
        model, version = conn.execute(_queries.judged_model, row).fetchone() or ("", "")
        return Message.of(self.strategy_id, session, pending, model, version)
