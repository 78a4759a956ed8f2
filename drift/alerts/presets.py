"""Sets of rules by name, and the metrics they watch.

`classic` is the matrix many desks start from; simulate it (`drift.alerts.simulation`) before use: a
healthy strategy (mean IC 0.03, daily standard deviation 0.08) is halted by "IC < 0 on three days"
within a year in 99.9% of cases. `default` watches the same things at acceptable false-alarm rates.

Metrics, one value per session:

=================  ==============================================================================
ic                 rank IC of the session's signals, null where not computable or not yet due
psi_max            largest PSI of the session's features
psi_ratio          the same in units of its limit, false discoveries controlled; above 2.5 only
                   where a feature jumped (`SessionPSI.ratio`)
psi_shared_ratio   the same; above 2.5 only where features jumped together (`SessionPSI.shared`)
psi_5d_ratio       that of the last five sessions' values pooled
psi_fixed_ratio    against the first reference ever accepted, with or without a jump
missing_excess     largest share of names without a value, beyond what the reference's days had
repeated_excess    the same of the share that has the commonest value
unchanged_excess   the same of the share that has the value of the session before
sharpe_20d         Sharpe ratio of the last 20 strategy returns, annualised
sharpe_60d         the same of the last 60
n_signals          signals of the session; null or 0 is absent
n_returns          signals with a known return, at the session on which it was due
n_features         features with a value
stopped            features without a value for any name
late               sessions by which the worst feature is behind (`computation.lateness`)
unit_shift         powers of ten by which a feature's median size is beyond the reference's days
clock_shift        hours by which event times have left their usual hour, of the worst feature
few_names          1 if fewer names than `min_n` have a signal
constant           1 if all signals are alike
signals_missing    share of names without a signal, of the usual number
new_names          share of names that never had a signal in the reference
signal_clock       hours by which signals left the time of day that they had in the reference
few_returns        1 if fewer names than `min_n` have a signal and the return that was due
constant_returns   1 if all returns that were due are alike
returns_missing    share of names without a return that was due, of the usual share
returns_unit       powers of ten by which their median size is beyond the reference's days
pnl_gaps           strategy returns that are missing in the last 60 sessions, the last one aside
pnl_implausible    strategy returns too large for a session in the last 60
n_versions         1 where the predictions name their model's version
skew               served cells that differ from research (`drift.skew`)
version_differs    1 if the version served was not the champion when it signalled, else 0
=================  ==============================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..metrics.cusum import CAP
from ..metrics.psi import BREAK
from .rules import SEVERITIES, Rule

__all__ = ["PRESETS", "classic", "default", "preset", "with_served"]

CHECK_FEATURES = "Check that the features are computed correctly."
CUT = "Cut the position by 50% and start diagnosing the model."
HALT = "Halt the strategy and have a person review it."
WATCH = "Watch what follows."
RETRAIN = "Start retraining."
CHECK_REGIME = "Check the market regime."
REDUCE = "Reduce the position and prepare to retrain."


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
    low, very_low = ("sharpe_20d", "<", sharpe_warning), ("sharpe_20d", "<", sharpe_critical)
    return (
        *_family(
            Rule("ic low", "ic", "<", ic_warning, sessions=5, action=CHECK_FEATURES),
            Rule("ic very low", "ic", "<", ic_critical, severity="critical", action=CUT),
            Rule("ic negative", "ic", "<", 0.0, sessions=3, severity="emergency", action=HALT),
        ),
        *_family(
            Rule("psi high", "psi_max", ">", psi_warning, action=WATCH),
            Rule(
                "psi very high", "psi_max", ">", psi_critical, severity="critical", action=RETRAIN
            ),
        ),
        *_family(
            Rule("sharpe low", *low, sessions=10, action=CHECK_REGIME),
            Rule("sharpe negative", *very_low, sessions=5, severity="critical", action=REDUCE),
        ),
    )


def default() -> tuple[Rule, ...]:
    """Rules with low false-alarm rates: CUSUM, tested PSI, long Sharpe windows, missing data.

    >>> [rule.name for rule in default() if rule.severity == "emergency"]
    ['ic drift emergency']
    """
    return (
        *_ic_drift(),
        *_feature_drift(),
        *_feeds(),
        *_performance(),
        *_silence(),
        *_versions(),
        *_served(),
    )


def _family(*rules: Rule) -> tuple[Rule, ...]:
    """Rules on one metric: the more severe ones inhibit the others."""
    loudness = {rule.name: SEVERITIES.index(rule.severity) for rule in rules}
    return tuple(
        replace(rule, inhibits=tuple(n for n in loudness if loudness[n] < loudness[rule.name]))
        for rule in rules
    )


def _ic_drift() -> tuple[Rule, ...]:
    """Three levels on one statistic: a higher level implies the lower ones."""

    def level(name: str, h: float, severity: str, action: str) -> Rule:
        rule = Rule(name, "ic", ">", h, statistic="cusum", cap=CAP, resolve=h / 2)
        return replace(rule, severity=severity, action=action)

    return _family(
        level("ic drift", 6.0, "warning", CHECK_FEATURES),
        level("ic drift critical", 8.0, "critical", CUT),
        level("ic drift emergency", 12.0, "emergency", HALT),
    )


def _feature_drift() -> tuple[Rule, ...]:
    """A slow drift shows in five pooled sessions, a broken feed in a jump on its first day.

    A shock to the whole market moves many features at once and breaks none: that is a warning.
    The comparison with the first reference accumulates: repeated acceptance cannot hide a drift.
    """
    drift = Rule("feature drift", "psi_5d_ratio", ">", 1.0, resolve=0.8, resolve_sessions=3)
    broken = Rule("feature break", "psi_ratio", ">", BREAK, severity="critical", resolve=1.0)
    shared = Rule("market move", "psi_shared_ratio", ">", BREAK, resolve=1.0)
    far = Rule("feature drift from origin", "psi_fixed_ratio", ">", 2.5, sessions=5, resolve=2.0)
    compare = "Compare the drifted features with their source, and watch what follows."
    check = "Check the feed of the drifted features; retrain if the change is real."
    market = "Compare with the market; if it did not move, check the job of these features."
    review = "Review the accepted references: together they have moved far from the first."
    return (
        *_family(replace(drift, action=compare), replace(broken, action=check)),
        replace(shared, action=market),
        replace(far, resolve_sessions=5, action=review),
    )


def _feeds() -> tuple[Rule, ...]:
    """Faults that show in each name, so that a few names suffice: see `drift.metrics.feed_quality`.

    A feed that becomes late by a session repeats values on one session only; "feature late" stays
    open until a session catches up.
    """

    def broken(name: str, metric: str, limit: float, sessions: int, action: str) -> Rule:
        rule = Rule(name, metric, ">", limit, severity="critical", action=action)
        return replace(rule, resolve=limit / 2, resolve_sessions=sessions)

    source = "Check the source of these features: names have lost their values."
    same = "Check the job of these features: most names have one and the same value."
    frozen = "Check the dates of these features: they repeat the session before."
    late = "Check the job of these features; confirm a repair with `drift repaired`."
    unit = "Check the unit of these features: their size is beyond every day of the reference."
    hour = "Check the time zone of these features' event times: they left their usual hour."
    stopped = broken("feature stopped", "stopped", 0.0, 1, "Check that the feature job runs.")
    behind = broken("feature late", "late", 0.0, 1, late)
    others = ("feature missing", "feature break", "feature drift", "no features")
    market = ("market move",)
    return (
        replace(stopped, inhibits=(*others, *market)),
        replace(behind, inhibits=("feature frozen",)),
        replace(broken("feature unit", "unit_shift", 0.7, 1, unit), inhibits=market),
        broken("feature clock", "clock_shift", 0.5, 1, hour),
        replace(broken("feature missing", "missing_excess", 0.1, 1, source), inhibits=market),
        replace(broken("feature constant", "repeated_excess", 0.5, 1, same), inhibits=market),
        broken("feature frozen", "unchanged_excess", 0.5, 1, frozen),
    )


def _performance() -> tuple[Rule, ...]:
    """Disasters only: 60 sessions cannot separate a Sharpe ratio of 1.5 from 0 any better."""

    def below(name: str, limit: float, severity: str, action: str) -> Rule:
        rule = Rule(name, "sharpe_60d", "<", limit, sessions=5, severity=severity, action=action)
        return replace(rule, resolve=limit + 1.5, resolve_sessions=5)

    return _family(
        below("sharpe low", -2.0, "warning", CHECK_REGIME),
        below("sharpe very low", -3.5, "critical", REDUCE),
    )


def _silence() -> tuple[Rule, ...]:
    """Missing data: without data no other rule can open."""

    def absent(name: str, metric: str, sessions: float, action: str) -> Rule:
        return Rule(name, metric, ">=", sessions, statistic="absent", action=action)

    ran = "Check that the model ran and that its predictions were recorded."
    feed = "Check the price feed: returns that were due have not been recorded."

    def above(name: str, metric: str, limit: float, action: str) -> Rule:
        return Rule(name, metric, ">", limit, action=action)

    names = "Lower min_n if the universe is small, else look for the missing names."
    alike = "Check the model: all signals are alike."
    same = "Check the price feed: all returns are alike."
    partial = "Check the price feed: returns of some names that were due have not been recorded."
    unit = "Check the unit of the returns: a return is a fraction, 0.01 for 1%."
    large = "Check the unit of the strategy's returns, and record the right ones."
    other = "Check the identifiers of the names: most were never in the reference; else accept one."
    hour = "Check when the model runs, and the time zone of signal_time."
    fewer = "Check that the model ran for all names."
    profits = "Record the missing returns of the strategy; until then no Sharpe ratio is known."
    unnamed = "Record the version of the model with its predictions again."
    return (
        replace(absent("no signals", "n_signals", 1, ran), severity="critical"),
        above("few names", "few_names", 0.0, names),
        above("new names", "new_names", 0.5, other),
        above("signal clock", "signal_clock", 2.5, hour),
        above("constant signals", "constant", 0.0, alike),
        above("fewer signals", "signals_missing", 0.3, fewer),
        above("few returns", "few_returns", 0.0, names),
        above("constant returns", "constant_returns", 0.0, same),
        above("fewer returns", "returns_missing", 0.3, partial),
        above("returns unit", "returns_unit", 0.7, unit),
        above("strategy returns implausible", "pnl_implausible", 0.0, large),
        above("strategy returns missing", "pnl_gaps", 0.0, profits),
        absent("no version", "n_versions", 1, unnamed),
        absent(
            "no features",
            "n_features",
            1,
            "Check that the feature job ran, before the signals were made.",
        ),
        absent("no returns", "n_returns", 2, feed),
    )


def _versions() -> tuple[Rule, ...]:
    """A wrong version is no statistic: one session is enough."""
    action = "Check which version the job loads, or move the alias, with a reason."
    rule = Rule("version", "version_differs", ">", 0.0, severity="critical", action=action)
    return (rule,)


def _served() -> tuple[Rule, ...]:
    """A served value is right or wrong: one cell is enough, and the next session that agrees."""
    action = "Run `mlflow-timescale incident skew`: served features differ from research."
    return (Rule("skew", "skew", ">", 0.0, severity="critical", action=action),)


def with_served(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Rules, and the one on served features that differ from research unless they watch it.

    What was served wrong is a fact, not a statistic to choose a limit for. A strategy without rules
    has none.

    >>> [rule.name for rule in with_served((Rule("ic low", "ic", "<", 0.0),))]
    ['ic low', 'skew']
    >>> with_served(())
    ()
    """
    [served] = _served()
    watches = any(rule.metric == served.metric or rule.name == served.name for rule in rules)
    return rules if watches or not rules else (*rules, served)


PRESETS: dict[str, Callable[[], tuple[Rule, ...]]] = {"classic": classic, "default": default}


def preset(name: str) -> tuple[Rule, ...]:
    """The rules of a preset; raises ValueError for an unknown name.

    >>> len(preset("classic"))
    7
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; there are: {', '.join(PRESETS)}")
    return PRESETS[name]()
