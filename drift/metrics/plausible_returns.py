"""How large a return may be before an error is more likely than the market."""

from __future__ import annotations

__all__ = ["LARGEST_MEDIAN", "LARGEST_RETURN", "LARGEST_STRATEGY_RETURN", "looks_like"]

# A name moves by more in one session only in a split, a crash or an error.
LARGEST_RETURN = 0.5
# In a session with a larger median move, percent are more likely than a market in free fall.
LARGEST_MEDIAN = 0.2
# A diversified strategy; margin calls come earlier.
LARGEST_STRATEGY_RETURN = 0.25
# Price ratios of common splits, and how far the market may move beside them.
SPLITS = (2, 3, 4, 5, 6, 7, 8, 10, 15, 20)
SPLIT_TOLERANCE = 0.03


def looks_like(value: float) -> str:
    """What a return looks like that an unadjusted split would leave; "" for nothing.

    >>> looks_like(-0.75), looks_like(3.02), looks_like(-0.62)
    ('a 4-for-1 split?', 'a 1-for-4 split?', '')
    """
    for ratio in SPLITS:
        for price, text in ((1 / ratio, f"{ratio}-for-1"), (float(ratio), f"1-for-{ratio}")):
            if abs((1 + value) / price - 1) <= SPLIT_TOLERANCE:
                return f"a {text} split?"
    return ""
