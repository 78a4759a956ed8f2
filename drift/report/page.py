"""One session as a self-contained HTML page: no script, no link, pictures inside.

Needs the `report` extra (matplotlib, Jinja2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ..alerts.headroom import Headroom, headroom
from ..alerts.lifecycle import Alert, loud
from ..alerts.retraining import RetrainingTrigger, triggers
from ..alerts.rules import SEVERITIES, Evaluation, Rule
from ..metrics.buckets import Reference
from ..metrics.cusum import Baseline, Onset
from ..metrics.psi import PSIResult, session_psi
from ..results.limits import limit_of, outlook
from . import drawing
from .axes import png
from .templates import embedded, number, template

__all__ = ["Report", "figures", "render"]

WORST = 6
MOST_FEATURES = 15
CALM_RULES = 3  # empty rows of a timeline without an alert
AGO = (0, 5, 20)  # sessions
USUAL = ("turnover", "n_signals", "n_returns", "n_features")
LABELS = {
    "ic": "IC of the session",
    "ic_5d_avg": "mean IC, 5 sessions",
    "ic_60d_avg": "mean IC, 60 sessions",
    "ic_cusum": "fall of the IC (CUSUM, sd)",
    "psi_max": "largest PSI of a feature",
    "psi_ratio": "the same, in units of its limit",
    "psi_5d_ratio": "five sessions pooled, in units",
    "psi_fixed_ratio": "against the first reference, in units",
    "sharpe_20d": "Sharpe ratio, 20 sessions",
    "sharpe_60d": "Sharpe ratio, 60 sessions",
    "drawdown": "below the highest point",
    "strategy_return": "return of the strategy",
    "turnover": "turnover of a book by rank",
    "n_signals": "names with a signal",
    "n_returns": "names with a return that was due",
    "n_features": "features with a value",
}
# A short window swings widely where nothing has changed, so no rule watches it.
NO_LIMIT = {
    "ic": "none: one session is noise",
    "ic_5d_avg": "none: five sessions are noise",
    "sharpe_20d": "none: swings by 4 without a change",
    "strategy_return": "none: one session is noise",
    "drawdown": "none: no rule watches it",
}


@dataclass(frozen=True)
class Report:
    """What a page is made from.

    Attributes
    ----------
    strategy, session
        Whose page, and of which session.
    sessions
        The sessions drawn, in order; the last is `session`.
    series
        Shape (sessions,) by metric, NaN where there is no value. Drawn are "ic", the longest
        "ic_Nd_avg", "ic_cusum" and "sharpe_Nd"; all of them are listed.
    evaluation
        The rules over `judged`.
    baseline, onset
        The accepted level of the IC, and when it began to fall, if it did.
    psi_ratios
        PSI by feature in units of its limit, shape (sessions,).
    features
        The session's features: reference and result.
    facts
        What else the reader should know, in order: model, version, as-of time, reference.
    judged
        The sessions that the rules looked at, which end with those drawn; by default the same.
        An alert may have been open for longer than the pictures reach back.
    remarks, cautions, changes
        Sentences on implausible inputs, on how far the monitor can be trusted, and on what changed
        since the session before.
    stored
        The alerts of the session as they are stored, by rule: their notes, and who handles them.
    model_url
        The page of the judged version; "" for none.
    """

    strategy: str
    session: date
    sessions: Sequence[date]
    series: Mapping[str, ArrayLike]
    evaluation: Evaluation
    baseline: Baseline | None = None
    onset: Onset | None = None
    psi_ratios: Mapping[str, ArrayLike] = field(default_factory=dict)
    features: Mapping[str, tuple[Reference, PSIResult]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    periods_per_year: float = 252
    judged: Sequence[date] = ()
    remarks: Sequence[str] = ()
    cautions: Sequence[str] = ()
    changes: Sequence[str] = ()
    stored: Mapping[str, Alert] = field(default_factory=dict)
    model_url: str = ""


def figures(report: Report) -> dict[str, bytes]:
    """The pictures that the report has data for, as PNG files by name.

    Names: "ic", "psi", "distributions", "equity", "sharpe", "alerts".
    """
    return {name: png(figure) for name, figure in _figures(report)}


def render(report: Report, pictures: Mapping[str, bytes] | None = None) -> str:
    """The page. `pictures` are those of `figures`, drawn here if not given."""
    drawn = figures(report) if pictures is None else pictures
    alerts = list(_open_alerts(report))
    status = alerts[0]["rule"].severity if alerts else "ok"
    features = list(_features(report))
    rooms = headroom(report.evaluation)
    return template("report.html").render(
        report=report,
        status=status,
        headline=_headline(alerts, outlook(rooms)),
        alerts=alerts,
        retraining=[trigger.text for trigger in _retraining(report)],
        days=[report.sessions[-1 - ago] if len(report.sessions) > ago else "" for ago in AGO],
        numbers=list(_numbers(report, rooms)),
        pictures=[_picture(report, name, data) for name, data in drawn.items()],
        features=features[:MOST_FEATURES],
        more=max(len(features) - MOST_FEATURES, 0),
    )


def _figures(report: Report) -> Iterator[tuple[str, Figure]]:
    series, rules = report.series, [state.rule for state in report.evaluation.states.values()]
    if "ic" in series:
        yield "ic", _ic_figure(report, [rule for rule in rules if rule.statistic == "cusum"])
    if report.psi_ratios:
        yield "psi", drawing.psi_heatmap(report.sessions, report.psi_ratios)
    if report.features:
        yield "distributions", drawing.distributions(_worst(report))
    if np.isfinite(np.asarray(series.get("strategy_return", []), dtype=np.float64)).any():
        yield "equity", drawing.equity_figure(report.sessions, series["strategy_return"])
    if windows := _by_window(series, "sharpe_", "d"):
        levels = [rule for rule in rules if rule.metric == f"sharpe_{max(windows)}d"]
        yield (
            "sharpe",
            drawing.sharpe_figure(
                report.sessions, windows, periods_per_year=report.periods_per_year, levels=levels
            ),
        )
    if rules:
        drawn = report.evaluation.cut(slice(-len(report.sessions), None))
        opened = {name: state for name, state in drawn.states.items() if state.open.any()}
        shown = opened or dict(list(drawn.states.items())[:CALM_RULES])
        yield "alerts", drawing.timeline(report.sessions, Evaluation(shown))


def _ic_figure(report: Report, levels: Sequence[Rule]) -> Figure:
    series = report.series
    return drawing.ic_figure(
        report.sessions,
        series["ic"],
        series.get("ic_cusum", np.full(len(report.sessions), np.nan)),
        averages=_by_window(series, "ic_", "d_avg"),
        baseline=report.baseline,
        levels=levels,
        onset=report.onset,
    )


def _by_window(series: Mapping[str, ArrayLike], prefix: str, suffix: str) -> dict[int, ArrayLike]:
    """The series named prefix, window, suffix, by window."""
    windows = {name.removeprefix(prefix).removesuffix(suffix): name for name in series}
    return {
        int(window): series[name]
        for window, name in windows.items()
        if name == f"{prefix}{window}{suffix}" and window.isdigit()
    }


def _worst(report: Report) -> list[tuple[str, Reference, Sequence[int]]]:
    names = sorted(report.features, key=lambda name: -(report.features[name][1].ratio or 0.0))
    return [(n, report.features[n][0], report.features[n][1].counts) for n in names[:WORST]]


TITLES = {
    "ic": "Information coefficient",
    "psi": "Feature drift",
    "distributions": "The features that moved most",
    "equity": "Growth of one unit of capital",
    "sharpe": "Rolling Sharpe ratio",
    "alerts": "Alerts",
}
NOTES = {
    "ic": "Below: how far the IC has fallen short of its accepted level, added up, in standard "
    "deviations; it returns to zero while the level holds.",
    "psi": "Above 1 the feature is beyond what its reference sessions and chance explain.",
    "distributions": "Share of values in each bucket of the reference; the last bucket, if there "
    "is one named missing, holds values that are not finite.",
    "equity": "Returns of the strategy, compounded from the first session drawn; below, the loss "
    "since the highest point. A session without a return counts as zero.",
    "sharpe": "The interval is for independent returns (Lo 2002). Short windows swing several "
    "times as far where nothing has changed.",
    "alerts": "Rules that opened in the sessions drawn. Thin: open under a louder alert, and not "
    "notified of.",
}


def _picture(report: Report, name: str, data: bytes) -> dict[str, str]:
    text = _onset_text(report) if name == "ic" and report.onset is not None else ""
    return {
        "title": TITLES.get(name, name),
        "note": NOTES.get(name, ""),
        "text": text,
        "data": embedded(data),
    }


def _onset_text(report: Report) -> str:
    onset = report.onset
    if onset is None:
        return ""
    at, low, high = (report.sessions[i] for i in (onset.index, onset.low, onset.high))
    over = "" if onset.until is None else f" and was made up for by {report.sessions[onset.until]}"
    return (
        f"The latest fall began on {at} (95% interval {low} to {high}){over}: "
        f"mean IC {onset.before:.4f} before, {onset.after:.4f} in it."
    )


def _open_alerts(report: Report) -> list[dict[str, Any]]:
    """Open at the session, the most severe first, inhibited ones last."""
    judged = report.judged or report.sessions
    since = {
        t.rule.name: judged[t.session] for t in report.evaluation.transitions() if t.state == "open"
    }
    last = len(judged) - 1
    found = [
        {
            "rule": state.rule,
            "inhibited": bool(state.inhibited[last]),
            "since": since[state.rule.name],
            "value": _last_known(state.statistic)[0],
            "note": _note(report.stored.get(state.rule.name)),
        }
        for state in report.evaluation.states.values()
        if last >= 0 and state.open[last]
    ]
    return sorted(found, key=_loudness)


def _retraining(report: Report) -> tuple[RetrainingTrigger, ...]:
    return triggers(loud(report.stored.values()))


def _note(alert: Alert | None) -> str:
    """What is behind an alert, and who handles it."""
    if alert is None:
        return ""
    by = f"{alert.state} by {alert.changed_by}" if alert.state != "open" else ""
    return ": ".join(filter(None, [by, alert.note]))


def _loudness(alert: Mapping[str, Any]) -> tuple[bool, int]:
    return alert["inhibited"], -SEVERITIES.index(alert["rule"].severity)


def _headline(alerts: Sequence[Mapping[str, Any]], near: str) -> str:
    loud = [alert["rule"].name for alert in alerts if not alert["inhibited"]]
    if not loud:
        calm = "Nothing is out of its accepted range."
        return f"{calm} But {near}" if near else calm
    return f"{len(loud)} open: {', '.join(loud)}."


def _numbers(report: Report, rooms: Sequence[Headroom]) -> Iterator[dict[str, Any]]:
    for name, values in report.series.items():
        array = np.asarray(values, dtype=np.float64)
        yield {
            "name": name,
            "label": LABELS.get(name, name),
            "known": [float(array[-1 - ago]) if len(array) > ago else np.nan for ago in AGO],
            "limit": _limit(name, report, rooms),
            "last": _last_value(array, report.sessions),
        }


def _last_known(values: ArrayLike) -> tuple[float, int]:
    """The last value that is known, and its position; NaN and -1 without any."""
    array = np.asarray(values, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(array))
    return (float(array[known[-1]]), int(known[-1])) if len(known) else (np.nan, -1)


def _last_value(values: np.ndarray, sessions: Sequence[date]) -> str:
    """The last value with its session, where the last session has none yet."""
    value, at = _last_known(values)
    if at < 0 or at == len(values) - 1:
        return ""
    return f"last: {number(value)} on {sessions[at]}"


def _limit(name: str, report: Report, rooms: Sequence[Headroom]) -> str:
    usual = np.asarray(report.series[name], dtype=np.float64)[-21:-1]
    if name in USUAL and np.isfinite(usual).any():
        return f"usual {np.nanmedian(usual):.3g}"
    if name == "psi_max" and not limit_of(name, rooms):
        return _limit_of_psi(report)
    if name == "ic_60d_avg" and report.baseline is not None:
        return f"accepted {number(report.baseline.mean)}"
    return limit_of(name, rooms) or NO_LIMIT.get(name, "")


def _limit_of_psi(report: Report) -> str:
    """The feature with the largest PSI, and its own limit."""
    known = {n: r for n, (_, r) in report.features.items() if r.value is not None}
    if not known:
        return ""
    worst = max(known, key=lambda name: known[name].value or 0.0)
    return f"{worst}, limit {number(known[worst].limit)}"


def _features(report: Report) -> Iterator[dict[str, Any]]:
    results = {name: result for name, (_, result) in report.features.items()}
    drifted = set(session_psi(results).drifted)
    for name in sorted(results, key=lambda name: -(results[name].ratio or 0.0)):
        result = results[name]
        share = result.counts[-1] / result.n if result.n and result.counts else 0.0
        yield {
            "name": name,
            "result": result,
            "drifted": name in drifted,
            "missing": f"{share:.1%}",
        }
