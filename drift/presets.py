"""Sets of rules by name, and the metrics they watch.

`classic` is the matrix many desks start from; run `drift.simulate` on it before believing it: a
healthy strategy (mean IC 0.03, daily standard deviation 0.08) is halted by "IC < 0 on three days"
within a year in 99.9% of cases. `default` says the same things at rates that can be lived with.

Metrics, one value per session:

=================  ==============================================================================
ic                 rank IC of the session's signals, null where not computable or not yet due
psi_max            largest PSI of the session's features
psi_ratio          the same in units of its limit, false discoveries controlled (`SessionPSI.ratio`)
psi_5d_ratio       the same of the last five sessions' values pooled
psi_fixed_ratio    the same as psi_ratio, against the first reference ever accepted
sharpe_20d         Sharpe ratio of the last 20 strategy returns, annualised
sharpe_60d         the same of the last 60
n_signals          signals of the session; null or 0 is absent
n_returns          signals with a known return, at the session on which it was due
n_features         features with a value
=================  ==============================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from drift.metrics.cusum import CAP
from drift.rules import Rule

__all__ = ["PRESETS", "classic", "default", "preset"]


def classic(
    *,
    ic_warning: float = 0.02,
    ic_critical: float = 0.01,
    psi_warning: float = 0.10,
    psi_critical: float = 0.25,
    sharpe_warning: float = 0.5,
    sharpe_critical: float = 0.0,
) -> tuple[Rule, ...]:
    """The seven rows of the classic alert matrix, with their recommended actions.

    >>> for rule in classic()[:3]:
    ...     print(f"{rule.severity}: {rule.condition}: {rule.action}")
    warning: ic < 0.02 on 5 sessions: Check that the features are computed correctly.
    critical: ic < 0.01: Cut the position by 50% and start diagnosing the model.
    emergency: ic < 0 on 3 sessions: Halt the strategy and have a person review it.
    """
    return (
        Rule(
            "ic low",
            "ic",
            "<",
            ic_warning,
            sessions=5,
            action="Check that the features are computed correctly.",
        ),
        Rule(
            "ic very low",
            "ic",
            "<",
            ic_critical,
            severity="critical",
            action="Cut the position by 50% and start diagnosing the model.",
            inhibits=("ic low",),
        ),
        Rule(
            "ic negative",
            "ic",
            "<",
            0.0,
            sessions=3,
            severity="emergency",
            action="Halt the strategy and have a person review it.",
            inhibits=("ic low", "ic very low"),
        ),
        Rule("psi high", "psi_max", ">", psi_warning, action="Watch what follows."),
        Rule(
            "psi very high",
            "psi_max",
            ">",
            psi_critical,
            severity="critical",
            action="Start retraining.",
            inhibits=("psi high",),
        ),
        Rule(
            "sharpe low",
            "sharpe_20d",
            "<",
            sharpe_warning,
            sessions=10,
            action="Check the market regime.",
        ),
        Rule(
            "sharpe negative",
            "sharpe_20d",
            "<",
            sharpe_critical,
            sessions=5,
            severity="critical",
            action="Reduce the position and prepare to retrain.",
            inhibits=("sharpe low",),
        ),
    )


def default() -> tuple[Rule, ...]:
    """Rules that hold up: nested CUSUM levels, tested PSI, long Sharpe windows, and silence.

    >>> [rule.name for rule in default() if rule.severity == "emergency"]
    ['ic drift emergency']
    """
    return (*_ic_drift(), *_feature_drift(), *_performance(), *_silence())


def _ic_drift() -> tuple[Rule, ...]:
    """Three levels on one statistic, so that a higher one implies the lower."""
    base = Rule("ic drift", "ic", ">", 6.0, statistic="cusum", cap=CAP, resolve=3.0)
    return (
        replace(base, action="Check that the features are computed correctly."),
        replace(
            base,
            name="ic drift critical",
            threshold=8.0,
            resolve=4.0,
            severity="critical",
            action="Cut the position by 50% and start diagnosing the model.",
            inhibits=("ic drift",),
        ),
        replace(
            base,
            name="ic drift emergency",
            threshold=12.0,
            resolve=6.0,
            severity="emergency",
            action="Halt the strategy and have a person review it.",
            inhibits=("ic drift", "ic drift critical"),
        ),
    )


def _feature_drift() -> tuple[Rule, ...]:
    """A slow drift shows in five pooled sessions, a broken feed on its first day.

    The first reference stays a witness: however often a new one is accepted, it sees the sum.
    """
    return (
        Rule(
            "feature drift",
            "psi_5d_ratio",
            ">",
            1.0,
            resolve=0.8,
            resolve_sessions=3,
            action="Compare the drifted features with their source, and watch what follows.",
        ),
        Rule(
            "feature break",
            "psi_ratio",
            ">",
            2.5,
            severity="critical",
            resolve=1.0,
            action="Check the feed of the named features; retrain if the change is real.",
            inhibits=("feature drift",),
        ),
        Rule(
            "feature drift from origin",
            "psi_fixed_ratio",
            ">",
            2.5,
            sessions=5,
            resolve=2.0,
            resolve_sessions=5,
            action="Review the accepted references: together they have moved far from the first.",
        ),
    )


def _performance() -> tuple[Rule, ...]:
    """Disasters only: 60 sessions tell a Sharpe ratio of 1.5 from one of 0 no better than this."""
    return (
        Rule(
            "sharpe low",
            "sharpe_60d",
            "<",
            -2.0,
            sessions=5,
            resolve=-0.5,
            resolve_sessions=5,
            action="Check the market regime.",
        ),
        Rule(
            "sharpe very low",
            "sharpe_60d",
            "<",
            -3.5,
            sessions=5,
            severity="critical",
            resolve=-2.0,
            resolve_sessions=5,
            action="Reduce the position and prepare to retrain.",
            inhibits=("sharpe low",),
        ),
    )


def _silence() -> tuple[Rule, ...]:
    """No data is an alert of its own: every other rule is deaf without any."""
    base = Rule("", "", ">=", 1.0, statistic="absent")
    return (
        replace(
            base,
            name="no signals",
            metric="n_signals",
            severity="critical",
            action="Check that the model ran and that its predictions were recorded.",
        ),
        replace(
            base,
            name="no features",
            metric="n_features",
            action="Check that the feature job ran.",
        ),
        replace(
            base,
            name="no returns",
            metric="n_returns",
            threshold=2.0,
            action="Check the price feed: returns that were due have not been recorded.",
        ),
    )


PRESETS: dict[str, Callable[[], tuple[Rule, ...]]] = {"classic": classic, "default": default}


def preset(name: str) -> tuple[Rule, ...]:
    """The rules of a preset; raises ValueError for a name that is none.

    >>> len(preset("classic"))
    7
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; there are: {', '.join(PRESETS)}")
    return PRESETS[name]()
