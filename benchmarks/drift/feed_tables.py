"""The outcomes of planted faults as tables in Markdown."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.drift.feed_faults import DECAY, VERSION, Kind
from benchmarks.drift.feed_trials import Outcome

DRIFT_WINDOW = 8


def read(results: Path) -> list[Outcome]:
    """The outcomes that earlier runs appended."""
    if not results.exists():
        return []
    return [Outcome(**json.loads(line)) for line in results.read_text("utf-8").splitlines()]


def report(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The tables, in Markdown."""
    groups: dict[tuple[str, str], dict[Kind, list[Outcome]]] = defaultdict(dict)
    for o in outcomes:
        kinds = groups[o.calendar, o.features]
        kinds.setdefault(Kind(o.fault, o.repaired), []).append(o)
    for (calendar, features), kinds in groups.items():
        yield f"\n## {calendar}, features {features}\n"
        yield (
            "| fault | seeds | first session | open to the repair, or the last session | closed "
            "| drift closed | false alerts | rules |"
        )
        yield "|---|--:|--:|--:|--:|--:|--:|---|"
        for kind, of_kind in sorted(
            kinds.items(), key=lambda item: (item[0].fault, item[0].repaired)
        ):
            if kind.fault != DECAY:
                yield _row(kind, of_kind)
    decays = [o for o in outcomes if o.fault == DECAY]
    if decays:
        yield from _decay_table(decays)


def _row(kind: Kind, outcomes: Sequence[Outcome]) -> str:
    false = sum(len(o.false_alerts) for o in outcomes)
    label = kind.fault if kind.repaired or kind.fault == "healthy" else f"{kind.fault}, unrepaired"
    if kind.fault == "healthy":
        alarms = sum(o.delay is not None for o in outcomes)
        return f"| {label} | {len(outcomes)} | | | | | {false + alarms} | |"
    first = sum(o.delay == 0 for o in outcomes)
    covered = sum(o.covered for o in outcomes)
    closed = sum(o.closed_after in (0, 1) for o in outcomes)
    rules = dict.fromkeys(rule for o in outcomes for rule in o.rules)
    in_window = sum(o.drift_closed_after in range(DRIFT_WINDOW + 1) for o in outcomes)
    after = (closed, "" if kind.fault == VERSION else in_window) if kind.repaired else ("", "")
    cells = (label, len(outcomes), first, covered, *after, false)
    return f"| {' | '.join(map(str, cells))} | {', '.join(rules)} |"


def _decay_table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "\n## Decay\n"
    yield (
        "| rule | markets | stated: median, 90% | seen: median | within the stated median "
        "| within the stated 90% |"
    )
    yield "|---|--:|--:|--:|--:|--:|"
    for rule in dict.fromkeys(rule for o in outcomes for rule in o.decay):
        delays = [o.decay[rule] for o in outcomes if rule in o.decay]
        never = float("inf")
        measured, medians, tails = (
            [never if value is None else value for value in column]
            for column in zip(*delays, strict=True)
        )
        within = sum(n <= limit for n, limit in zip(measured, medians, strict=True))
        within_tail = sum(n <= limit for n, limit in zip(measured, tails, strict=True))
        yield (
            f"| {rule} | {len(delays)} | {statistics.median(medians):.0f}, "
            f"{statistics.median(tails):.0f} | {statistics.median(measured):.0f} | {within} "
            f"| {within_tail} |"
        )
