"""`drift rules list | use | simulate`."""

from __future__ import annotations

from typing import Any

import click

from mlflow_timescale.cli.kit import (
    database_option,
    json_option,
    print_json,
    print_message,
    print_table,
    rehearsal_option,
    strategy_option,
)
from mlflow_timescale.db import DatabaseURI

from .monitors import open_monitor

# Written out: the module that defines the presets loads numpy.
PRESETS = click.Choice(["classic", "default"])


@click.group()
def rules() -> None:
    """Show, choose and simulate alert rules."""


@rules.command("list")
@database_option
@strategy_option()
@json_option
def list_rules(uri: DatabaseURI, strategy: str, as_json: bool) -> None:
    """List the rules in force."""
    listed = open_monitor(uri, strategy).strategy.judging
    if as_json:
        print_json([rule.to_dict() for rule in listed])
        return
    rows = [(rule.name, rule.severity, rule.condition, rule.action) for rule in listed]
    print_table(("rule", "severity", "when", "recommendation"), rows)


@rules.command("use")
@database_option
@strategy_option()
@click.argument("preset", type=PRESETS)
@rehearsal_option
def use_rules(uri: DatabaseURI, strategy: str, preset: str) -> None:
    """Judge the strategy by the rules of PRESET from now on."""
    open_monitor(uri, strategy).configure(rules=preset, create=False)
    print_message(f"{strategy!r} is judged by the rules of {preset!r} from its next run on")


@rules.command("simulate")
@database_option
@strategy_option()
@click.option("--preset", type=PRESETS, help="Rules to try; default: those in force.")
@click.option("--paths", default=4000, show_default=True, help="Number of years to simulate.")
@json_option
def simulate_rules(
    uri: DatabaseURI, strategy: str, preset: str | None, paths: int, as_json: bool
) -> None:
    """Estimate each rule's false-alarm rate and detection delay.

    Years without drift are drawn from the strategy's own history; "alarmed years" is the share of
    them with a false alarm. "fade" and "flip" are the median number of sessions until a fall of the
    IC to zero, or to its negative, is detected. Rules with the basis "operation" depend only on how
    the feeds are run: a healthy feed never opens them.
    """
    monitor = open_monitor(uri, strategy)
    simulations = monitor.simulate(preset, n_paths=paths)
    if as_json:
        print_json([_plain(simulation) for simulation in simulations])
        return
    header = ("rule", "severity", "alarmed years", "alarms a year", "fade", "flip", "basis")
    print_table(header, [_simulation_row(simulation) for simulation in simulations])
    if any(_is_of_features(simulation) for simulation in simulations):
        other = "raw" if monitor.strategy.ranked else "ranked"
        _compare(simulations, monitor.simulate(preset, n_paths=paths, features=other), other)


def _is_of_features(simulation: Any) -> bool:
    return bool(simulation.rule.metric.startswith("psi") and not simulation.reason)


def _compare(simulations: Any, others: Any, other: str) -> None:
    """Recommend the other way to compare features if it sends less than half of the alarms."""
    here, there = (
        sum(s.false_alarms_per_year for s in each if _is_of_features(s))
        for each in (simulations, others)
    )
    kind = "raw" if other == "ranked" else "ranked"
    text = f"rules on {kind} features: {here:.1f} alarms a year; on {other} ones: {there:.1f}"
    if here > 0.5 and there < here / 2:
        text += f"; recommended: `drift accept --feature-values {other}`"
    print_message(text)


def _plain(simulation: Any) -> dict[str, Any]:
    fields = {name: getattr(simulation, name) for name in simulation.__dataclass_fields__}
    if simulation.reason:
        fields |= {"false_alarm_share": None, "false_alarms_per_year": None}
    return fields


def _simulation_row(simulation: Any) -> tuple[Any, ...]:
    if simulation.reason:
        return simulation.rule.name, simulation.rule.severity, simulation.reason, *("",) * 4
    return (
        simulation.rule.name,
        simulation.rule.severity,
        f"{simulation.false_alarm_share:.1%}",
        f"{simulation.false_alarms_per_year:.1f}",
        *(_delay(simulation.delays.get(change)) for change in ("fade", "flip")),
        simulation.basis,
    )


def _delay(delay: Any) -> str:
    if delay is None:
        return ""
    return "never" if delay.median is None else f"{delay.median:.0f}"
