"""The house's word list: words and phrases that the prose of this project does without."""

from __future__ import annotations

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUFFIXES = (".md", ".py", ".sql", ".html", ".toml", ".cfg", ".yaml")
# Frozen texts, and the places that name the words.
SKIPPED = ("tests/support/words.py", "tests/db/last_layout/")

INSTEAD = {
    "whoever": "the user, the caller",
    "whomever": "the user",
    "nobody": "no user, nothing, no one (the account: `nobody`)",
    "somebody": "a user, another process",
    "everybody": "all users",
    "anybody": "any user",
    "lest": "so that ... not",
    "hardly": "rarely, almost never",
    "anew": "again, rebuild",
    "whence": "from where",
    "thence": "from there",
    "hitherto": "so far",
    "henceforth": "from now on",
    "thereof": "of it",
    "therein": "in it",
    "thereby": "so",
    "wherein": "in which",
    "whilst": "while",
    "amongst": "among",
    "naught": "nothing",
    "nought": "nothing",
    "upon": "on",
    "albeit": "although",
    "seldom": "rarely",
    "so many": "the number, that many",
    "half as": "50% of",
    "as dear": "as expensive",
    "for want of": "without",
    "for ever": "forever, permanently",
    "cries wolf": "raises a false alarm",
    "is told": "receives, is notified",
    "are told": "receive, are notified",
    "be told": "be notified",
    "was told": "received, was notified",
    "were told": "received, were notified",
    "been told": "been notified",
    "told of": "notified of",
    "says": "states, shows, means, prints",
    "asks": "requests, queries, checks",
    "tells": "reports, returns, shows",
}
_WORDS = re.compile(rf"\b({'|'.join(INSTEAD)})\b", re.IGNORECASE)
_PROSE_TOKENS = {
    tokenize.STRING,
    tokenize.COMMENT,
    getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING),  # Python 3.12 splits f-strings
}
# Code spans, and data of tests such as 'nobody'.
_CODE = re.compile(r"`[^`\n]*`|'\w+'|\(nobody")


def tracked_files() -> list[Path]:
    """The files of the working tree that hold prose."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = [name for name in listing.stdout.splitlines() if not name.startswith(SKIPPED)]
    return [ROOT / name for name in names if name.endswith(SUFFIXES) and (ROOT / name).is_file()]


def findings(path: Path) -> list[str]:
    """`path:line: word -> replacement` for every word of the list in a file."""
    name = path.relative_to(ROOT)
    return [
        f"{name}:{line}: {word!r} -> {INSTEAD[word.lower()]}"
        for line, text in _prose(path)
        for word in _WORDS.findall(_CODE.sub("", text))
    ]


def _prose(path: Path) -> Iterator[tuple[int, str]]:
    """Text with line numbers: of Python the comments and strings, of other files every line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in _PROSE_TOKENS and token.string != '"nobody"':  # the account's name
            for number, line in enumerate(token.string.splitlines()):
                yield token.start[0] + number, line
