"""Short texts as values: sectors, ratings, regimes. They are stored as JSON strings."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..errors import InvalidValue

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


def is_label(texts: Texts) -> npt.NDArray[np.bool_]:
    """Which JSON texts are categories, and neither structures nor None.

    >>> is_label(np.array(['"TECH"', "[1, 2]", None], dtype=object))
    array([ True, False, False])
    """
    return np.fromiter((str(text).startswith('"') for text in texts), np.bool_, len(texts))


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
