"""The tables of `benchmarks/incidents.md`, from the lines of the results."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.incidents.faults import TITLES

Row = dict[str, Any]


def read(results: Path) -> list[Row]:
    """The rows of a file; the last one of a trial counts. No rows for a file that is not there."""
    if not results.exists():
        return []
    lines = results.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line]
    return list({(row["kind"], row["seed"]): row for row in rows}.values())


def of(rows: Sequence[Row]) -> str:
    """All tables as Markdown."""
    parts = [_faults(rows), _healthy([row for row in rows if row["kind"] == "healthy"])]
    return "\n\n".join(filter(None, [*parts, _missed(rows)]))


def _faults(rows: Sequence[Row]) -> str:
    head = [
        "| fault | trials | found | right diagnosis | explained | sessions until seen "
        "| false alarms "
        "| seconds to the explanation | statistics alone: found | sessions | name the feature |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    every = [row for row in rows if row["kind"] in TITLES]
    lines = [
        _line(title, [row for row in every if row["kind"] == kind])
        for kind, title in TITLES.items()
        if any(row["kind"] == kind for row in every)
    ]
    return "\n".join([*head, *lines, _line("**all**", every)]) if lines else ""


def _line(title: str, rows: Sequence[Row]) -> str:
    count = len(rows)
    seen = [row["seen_after"] for row in rows if row.get("seen_after") is not None]
    asked = [row for row in rows if row.get("explained") is not None]
    seconds = [row["seconds"] for row in asked]
    alone = [r["statistics_after"] for r in rows if r.get("statistics_after") is not None]
    cells = [
        title,
        count,
        len(seen),
        sum(bool(row.get("diagnosed")) for row in rows),
        f"{sum(bool(row['explained']) for row in asked)} of {len(asked)}",
        _spread([after + 1 for after in seen]),
        sum(len(row.get("false_alerts", ())) for row in rows),
        f"{statistics.median(seconds):.1f}" if seconds else "",
        len(alone),
        _spread([after + 1 for after in alone]),
        sum(bool(row.get("statistics_named")) for row in rows),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _spread(values: Sequence[int]) -> str:
    """The median, and the largest."""
    return f"{statistics.median(values):g} (at most {max(values)})" if values else ""


def _healthy(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    months = sum(row["months"] for row in rows)
    cells = sum(row["cells"] for row in rows)
    differing = sum(row["differing"] for row in rows)
    counts: dict[str, int] = {}
    for row in rows:
        for rule, count in row["alerts"].items():
            counts[rule] = counts.get(rule, 0) + count
    alone = sum(row["statistics"] for row in rows)
    head = [
        f"{months} healthy strategy-months, {cells:,} cells served, {differing} differ.",
        "",
        "| alerts of | count |",
        "|---|---|",
        f"| `skew` | {counts.pop('skew', 0)} |",
    ]
    lines = [f"| `{rule}` | {count} |" for rule, count in sorted(counts.items())]
    return "\n".join([*head, *lines, f"| PSI of what was served, alone | {alone} |"])


def _missed(rows: Sequence[Row]) -> str:
    lines = [
        f"| {row['kind']} | {row['seed']} | {row.get('planted', '')} | {_what(row)} |"
        for row in rows
        if row["kind"] in TITLES and not _is_right(row)
    ]
    if not lines:
        return ""
    return "\n".join(["| fault | seed | planted | instead |", "|---|---|---|---|", *lines])


def _is_right(row: Row) -> bool:
    return row.get("seen_after") is not None and bool(row.get("diagnosed"))


def _what(row: Row) -> str:
    if "error" in row:
        return f"error: {row['error'].strip().splitlines()[-1]}"
    return "not seen" if row["seen_after"] is None else str(row["answer"])[:300]
