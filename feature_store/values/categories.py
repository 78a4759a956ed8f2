"""Short texts as values: sectors, ratings, regimes. They are stored as JSON strings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..errors import InvalidValue

if TYPE_CHECKING:
    from .points import Points

MOST_CHARACTERS = 256
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
Texts = npt.NDArray[np.object_]


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow column holds text.

    >>> is_text(pa.string()), is_text(pa.float64())
    (True, False)
    """
    return any(is_kind(kind) for is_kind in _TEXTS)


def to_label(text: str, what: str) -> str | None:
    """The JSON string of a category; None for an empty text, which is no value.

    Raises InvalidValue for more than 256 characters, and for what PostgreSQL cannot hold.

    >>> to_label("TECH", "feature 'sector'")
    '"TECH"'
    """
    if not text:
        return None
    if len(text) > MOST_CHARACTERS:
        raise InvalidValue(
            f"{what} is a text of {len(text)} characters ({text[:40]!r}...); a category has at "
            f"most {MOST_CHARACTERS}"
        )
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidValue(f"{what} is {text!r}, which PostgreSQL cannot hold as text")
    return json.dumps(text, ensure_ascii=False)


def labels(column: pa.Array, what: str) -> Texts:
    """The JSON string of each row of a text column, shape (rows,); None where there is no value.

    Raises InvalidValue as `to_label` does.

    >>> labels(pa.array(["TECH", None, ""]), "feature 'sector'").tolist()
    ['"TECH"', None, None]
    """
    encoded = column.dictionary_encode()
    texts = np.array(
        [*(to_label(text, what) for text in encoded.dictionary.to_pylist()), None], dtype=object
    )
    codes = encoded.indices.fill_null(len(texts) - 1)
    rows: Texts = texts[np.asarray(codes.to_numpy(zero_copy_only=False), dtype=np.intp)]
    return rows


def category_of(label: Any) -> str | None:
    """The text of a category; None for a structure, and for None.

    >>> category_of('"TECH"'), category_of("[1, 2]")
    ('TECH', None)
    """
    is_label = label is not None and label.startswith('"')
    return str(json.loads(label)) if is_label else None


def categories(points: Points) -> dict[str, list[str]]:
    """The distinct texts of each feature of a batch that has any."""
    if points.json is None:
        return {}
    is_label = np.array(
        [text is not None and text.startswith('"') for text in points.json], dtype=bool
    )
    distinct: dict[str, set[str]] = {}
    for code in np.unique(points.feature[is_label]).tolist():
        of_feature = is_label & (points.feature == code)
        distinct[points.features[code]] = set(points.json[of_feature].tolist())
    return {name: sorted(json.loads(text) for text in texts) for name, texts in distinct.items()}


def looks_like_a_number(text: str) -> bool:
    """Whether a text is probably a number that was read as text, such as "1.5", "1,000" or "nan".

    >>> looks_like_a_number("1.5"), looks_like_a_number("BBB+")
    (True, False)
    """
    try:
        float(text.strip().rstrip("%").replace(",", "").replace(" ", ""))
    except ValueError:
        return False
    return True
