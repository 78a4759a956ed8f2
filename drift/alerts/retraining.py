"""Reasons to consider retraining: critical alerts on served features, distributions or the IC."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from .lifecycle import Alert
from .rules import SEVERITIES

CAUSES = ("skew", "psi", "ic")
# A model that is trained again learns nothing about inputs that were served wrongly.
REPAIR_FIRST = "repair what was served before retraining"


@dataclass(frozen=True)
class RetrainingTrigger:
    """A critical alert that is a reason to consider retraining; nothing is started by it.

    Attributes
    ----------
    cause
        "skew" (served features differ from research), "psi" (a distribution has moved) or "ic".
    rule, severity, session
        The alert, and the session on which it opened.
    """

    cause: str
    rule: str
    severity: str
    session: date

    @property
    def text(self) -> str:
        """One line for people.

        >>> RetrainingTrigger("ic", "ic drift critical", "critical", date(2020, 3, 17)).text
        'ic: ic drift critical since 2020-03-17'
        """
        advice = f"; {REPAIR_FIRST}" if self.cause == "skew" else ""
        return f"{self.cause}: {self.rule} since {self.session}{advice}"


def triggers(alerts: Iterable[Alert]) -> tuple[RetrainingTrigger, ...]:
    """The retraining triggers among open alerts, in the order of CAUSES."""
    critical = SEVERITIES.index("critical")
    found = [
        RetrainingTrigger(cause_of(alert.metric), alert.rule, alert.severity, alert.session)
        for alert in alerts
        if SEVERITIES.index(alert.severity) >= critical and cause_of(alert.metric)
    ]
    return tuple(sorted(found, key=lambda trigger: CAUSES.index(trigger.cause)))


def causes(found: Iterable[RetrainingTrigger]) -> str:
    """The causes with blanks between, each once: a tag, or a variable of a command.

    >>> day = date(2020, 3, 17)
    >>> causes([RetrainingTrigger("psi", rule, "critical", day) for rule in ("a", "b")])
    'psi'
    """
    return " ".join(dict.fromkeys(trigger.cause for trigger in found))


def cause_of(metric: str) -> str:
    """The cause that a rule's metric stands for; "" for a metric of another kind.

    >>> [cause_of(metric) for metric in ("ic", "ic_5d_avg", "psi_ratio", "skew", "sharpe_60d")]
    ['ic', 'ic', 'psi', 'skew', '']
    """
    return next((c for c in CAUSES if metric == c or metric.startswith(f"{c}_")), "")
