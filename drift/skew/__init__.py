"""Served features against research: which cells differ, and why.

Entry points: `diagnosis` (numpy only).
"""

# The modules that other rooms may import.
__all__ = ["cells", "diagnosis", "findings"]
