"""The twelve kinds of fault: what each does to serving, and what a right diagnosis names.

A fault changes what is served (`Served`), the feature store, or the market itself. `FAULTS` has
them in the order of the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np

from benchmarks.incidents.market import FEATURES, Floats, Market

SESSIONS = 10  # of a fault: two weeks
WEEK = 5
UNITS = (100.0, 0.01, 1000.0, 10000.0)
ZONES = (-8, -5, -4, -3)  # hours: a time after the decision would be refused


@dataclass
class Served:
    """What live code serves in each session.

    `moved` has the hours by which the times that the values describe are off, by session.
    """

    features: dict[str, Floats]
    moved: Floats
    versions: list[str]

    @classmethod
    def of(cls, market: Market) -> Served:
        length = len(market.days)
        values = {name: array.copy() for name, array in market.features.items()}
        return cls(values, np.zeros(length), ["1"] * length)


@dataclass
class Planted:
    """A fault of one seed: its kind, sessions, and what the diagnosis has to name.

    `features` are the features that are wrong, `parameters` the numbers of the fault, `names` the
    names that it touches (all if empty).
    """

    kind: str
    start: int
    stop: int
    features: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @property
    def sessions(self) -> slice:
        return slice(self.start, self.stop)


Plant = Callable[[Market, Served, Planted, np.random.Generator], None]


def late(market: Market, served: Served, fault: Planted, generator: np.random.Generator) -> None:
    """RSI one session late."""
    fault.features = ("rsi_14",)
    true = market.features["rsi_14"]
    served.features["rsi_14"][fault.sessions] = true[fault.start - 1 : fault.stop - 1]


def unit(market: Market, served: Served, fault: Planted, generator: np.random.Generator) -> None:
    """A unit: one feature times a power of ten."""
    name, factor = str(generator.choice(FEATURES[:5])), float(generator.choice(UNITS))
    fault.features, fault.parameters = (name,), {"factor": factor}
    served.features[name][fault.sessions] *= factor


def sign(market: Market, served: Served, fault: Planted, generator: np.random.Generator) -> None:
    """A sign: one feature times -1."""
    name = str(generator.choice(("ret_5d", "ret_20d", "mom_12_1", "alpha")))
    fault.features = (name,)
    served.features[name][fault.sessions] *= -1


def zero(market: Market, served: Served, fault: Planted, generator: np.random.Generator) -> None:
    """NaN served as zero."""
    fault.features = ("mom_12_1",)
    values = served.features["mom_12_1"][fault.sessions]
    values[np.isnan(values)] = 0.0


def stale(market: Market, served: Served, fault: Planted, generator: np.random.Generator) -> None:
    """The feature job stops for a week: all features keep the values of the last session."""
    fault.stop, fault.features = fault.start + WEEK, FEATURES
    for name, true in market.features.items():
        served.features[name][fault.sessions] = true[fault.start - 1]
    for day in range(fault.start, fault.stop):
        moved = market.event(fault.start - 1) - market.event(day)
        served.moved[day] = moved / timedelta(hours=1)


def columns(market: Market, served: Served, fault: Planted, generator: np.random.Generator) -> None:
    """Two columns exchanged."""
    one, other = (str(name) for name in generator.choice(FEATURES, 2, replace=False))
    fault.features = (one, other)
    for here, there in ((one, other), (other, one)):
        served.features[here][fault.sessions] = market.features[there][fault.sessions]


def zone(market: Market, served: Served, fault: Planted, generator: np.random.Generator) -> None:
    """A time-zone shift: event times are some hours off, of the job or in serving alone."""
    hours = int(generator.choice(ZONES))
    fault.features = FEATURES
    fault.parameters = {"hours": hours, "of": str(generator.choice(("job", "serving")))}
    served.moved[fault.sessions] = hours


def version(market: Market, served: Served, fault: Planted, generator: np.random.Generator) -> None:
    """The wrong version served for two weeks: version 2, while the champion is 1."""
    fault.parameters = {"version": "2"}
    served.versions[fault.sessions] = ["2"] * (fault.stop - fault.start)


def revision(
    market: Market, served: Served, fault: Planted, generator: np.random.Generator
) -> None:
    """A vendor's revision after serving: what was served was right (`revised` writes it)."""
    fault.stop = fault.start + 3
    name = str(generator.choice(FEATURES[:5]))
    fault.features, fault.parameters = (
        (name,),
        {"factor": float(generator.choice((-1.0, 1.5, 0.5)))},
    )


def tickers(market: Market, served: Served, fault: Planted, generator: np.random.Generator) -> None:
    """Two tickers mapped to each other, in all features."""
    one, other = generator.choice(len(market.names), 2, replace=False)
    fault.features, fault.names = FEATURES, (market.names[one], market.names[other])
    for name, true in market.features.items():
        values = served.features[name]
        for here, there in ((one, other), (other, one)):
            values[fault.sessions, here] = true[fault.sessions, there]


def single(market: Market, served: Served, fault: Planted, generator: np.random.Generator) -> None:
    """float32 in serving, in all features."""
    fault.features = FEATURES
    for values in served.features.values():
        values[fault.sessions] = values[fault.sessions].astype(np.float32)


def decay(market: Market, served: Served, fault: Planted, generator: np.random.Generator) -> None:
    """A decay from a known day on; nothing is wrong in serving (`Market.without_skill`)."""


FAULTS: dict[str, Plant] = {
    "late": late,
    "unit": unit,
    "sign": sign,
    "NaN as zero": zero,
    "stale": stale,
    "columns": columns,
    "time zone": zone,
    "version": version,
    "revision": revision,
    "tickers": tickers,
    "float32": single,
    "decay": decay,
}
TITLES = {
    "late": "RSI one session late in serving only",
    "unit": "a unit",
    "sign": "a sign",
    "NaN as zero": "NaN served as zero",
    "stale": "stale job for a week",
    "columns": "two columns exchanged",
    "time zone": "time-zone shift",
    "version": "wrong version served for two weeks",
    "revision": "vendor revision after serving",
    "tickers": "two tickers mapped to each other",
    "float32": "float32 in serving",
    "decay": "decay that starts on a known day",
}
