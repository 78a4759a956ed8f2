"""The limit beside each figure of a session, and one sentence on the nearest alert."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..alerts.headroom import Headroom, nearest
from ..alerts.rules import SEVERITIES, Rule
from ..metrics.psi import BREAK
from .values import Value

# Figures whose name differs from the metric of the rules on them.
_METRICS = {"psi": "psi_max"}


def limit_of(figure: str, rooms: Iterable[Headroom]) -> str:
    """The next limit of a figure, in words; "" for a figure that no rule watches.

    >>> from ..alerts.rules import Rule
    >>> rule = Rule("ic drift", "ic", ">", 6.0, statistic="cusum")
    >>> limit_of("ic_cusum", [Headroom(rule, 5.5, False, 0, 1)])
    'warning above 6, one bad session away'
    """
    watched = [room for room in rooms if _figure(room) == _METRICS.get(figure, figure)]
    if not watched:
        return ""
    closed = [room for room in watched if not room.open]
    by_severity = sorted(closed or watched, key=lambda r: SEVERITIES.index(r.rule.severity))
    return (by_severity[0] if closed else by_severity[-1]).text


def _figure(room: Headroom) -> str:
    cusum = room.rule.statistic == "cusum"
    return f"{room.rule.metric}_cusum" if cusum else room.rule.metric


def limit_of_psi(values: Sequence[Value], rooms: Iterable[Headroom]) -> str:
    """The feature with the largest PSI, its limit, and the PSI at which an alert opens."""
    of_feature = {v.dimension: v.value for v in values if v.metric == "psi" and v.dimension}
    known = {name: value for name, value in of_feature.items() if value is not None}
    if not known:
        return ""
    worst = max(known, key=lambda name: known[name])
    limits = {v.dimension: v.value for v in values if v.metric == "psi_limit"}
    limit = limits.get(worst)
    if limit is None:
        return worst
    rules = [room.rule for room in rooms if room.rule.metric == "psi_ratio"]
    alert = f", {_alert_above(rules[0], limit)}" if rules else ""
    return f"{worst}, limit {limit:.2g}{alert}"


def _alert_above(rule: Rule, limit: float) -> str:
    # Beyond BREAK, `psi_ratio` holds only what came in one session.
    jump = " after a jump" if rule.threshold >= BREAK else ""
    return f"{rule.severity} above {limit * rule.threshold:.2g}{jump}"


def outlook(rooms: Iterable[Headroom]) -> str:
    """A sentence on the alert that the next bad session opens; "" if none is that near.

    >>> from ..alerts.rules import Rule
    >>> rule = Rule("ic drift", "ic", ">", 6.0, statistic="cusum")
    >>> outlook([Headroom(rule, 5.5, False, 0, 1)])
    'ic drift is one bad session away: CUSUM of ic 5.5, warning above 6.'
    """
    near = nearest(rooms)
    if near is None or near.value is None:
        return ""
    limit, _, away = near.text.rpartition(", ")
    what = near.rule.condition.partition(f" {near.rule.comparison} ")[0]
    return f"{near.rule.name} is {away}: {what} {near.value:.3g}, {limit}."
