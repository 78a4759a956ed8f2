"""Plain English: the words of `support.words` stay out of docs, comments, SQL and help texts."""

from __future__ import annotations

from support.words import INSTEAD, ROOT, findings, tracked_files


def test_the_prose_is_plain_english() -> None:
    errors = [error for path in tracked_files() for error in findings(path)]
    assert not errors, "\n".join(["see CONTRIBUTING.md, Words", *errors])


def test_the_check_reads_docstrings_comments_and_strings_but_no_code() -> None:
    errors = findings(ROOT / "tests" / "support" / "words.py")
    assert len(errors) >= len(INSTEAD)  # the list itself names every word
