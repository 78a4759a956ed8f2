"""Served features against research: which cells differ, and why.

Entry points: `diagnosis` (numpy only), `reconciliation` (a range of sessions), `mornings` (the
differing cells of each session, for the monitor), `sentences` (for people).
"""

# The modules that other rooms may import.
__all__ = [
    "cells",
    "clock",
    "diagnosis",
    "findings",
    "mornings",
    "reconciliation",
    "sentences",
    "tables",
]
