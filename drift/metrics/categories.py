"""Categories as numbers: a code for each text, which is the same on every day and machine.

Buckets, counts and shares then work as for numbers. A code is 48 bits of the text's SHA-256: a
double holds it exactly, and two of a thousand texts share one with a probability below 2e-9.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Floats

__all__ = ["category_codes", "code_of", "is_categorical"]


def code_of(label: str) -> float:
    """The code of a text: an integer below 2**48 as a float.

    >>> code_of("TECH")
    56036062328067.0
    """
    return float(int.from_bytes(sha256(label.encode()).digest()[:6], "big"))


def category_codes(labels: Iterable[Any]) -> tuple[Floats, dict[float, str]]:
    """The codes of texts, shape (n,), NaN where one is missing (None, NaN), and their texts.

    >>> codes, names = category_codes(["TECH", None, "TECH"])
    >>> bool(codes[0] == codes[2]), bool(np.isnan(codes[1])), list(names.values())
    (True, True, ['TECH'])
    """
    items = list(labels)
    known = {item: code_of(item) for item in {i for i in items if isinstance(i, str)}}
    codes = np.array([known.get(i, np.nan) if isinstance(i, str) else np.nan for i in items])
    return codes.astype(np.float64), {code: label for label, code in known.items()}


def is_categorical(values: ArrayLike) -> bool:
    """Whether an array holds texts.

    >>> is_categorical(["TECH", None]), is_categorical([1.0, np.nan])
    (True, False)
    """
    array = values if hasattr(values, "dtype") else np.asarray(values, dtype=object)
    if str(getattr(array, "dtype", "")) in ("object", "category") or _is_text(array):
        return any(isinstance(item, str) for item in np.asarray(array, dtype=object).ravel())
    return False


def labels_of(names: Mapping[float, str], codes: Iterable[float]) -> tuple[str, ...]:
    """The texts of codes, in their order."""
    return tuple(names.get(code, f"{code:.0f}") for code in codes)


def _is_text(array: Any) -> bool:
    kind = getattr(array.dtype, "kind", "")
    return kind in "UST" or str(array.dtype).startswith(("str", "string", "large_string"))
