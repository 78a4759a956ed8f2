"""Plain English: the words of `support.words` stay out of docs, comments, SQL and help texts."""

from __future__ import annotations

from pathlib import Path

from support.words import INSTEAD, ROOT, findings, tracked_files

PENDING = Path(__file__).with_name("words_pending.txt")


def pending() -> set[str]:
    """Files that are still to be rewritten; the list only shrinks."""
    return set(PENDING.read_text().split()) if PENDING.exists() else set()


def test_the_prose_is_plain_english() -> None:
    checked = [
        path for path in tracked_files() if path.relative_to(ROOT).as_posix() not in pending()
    ]
    errors = [error for path in checked for error in findings(path)]
    assert not errors, "\n".join(["see CONTRIBUTING.md, Words", *errors])


def test_the_list_of_pending_files_shrinks() -> None:
    clean = [name for name in pending() if not (ROOT / name).exists() or not findings(ROOT / name)]
    assert not clean, f"clean by now, remove from {PENDING.name}: {sorted(clean)}"


def test_the_check_reads_docstrings_comments_and_strings_but_no_code() -> None:
    errors = findings(ROOT / "tests" / "support" / "words.py")
    assert len(errors) >= len(INSTEAD)  # the list itself names every word
