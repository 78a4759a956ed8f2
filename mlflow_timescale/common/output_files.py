"""Files that commands write: whole or not at all, and at the place that their name gives."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file beside `path` that takes its place when the block ends well.

    A reader of `path` never sees a part of a file. A symbolic link that another account has put
    there, in /tmp or in a folder of its own, is replaced and not followed; one of this account, a
    device and a FIFO are written to.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> target = Path(mkdtemp(), "report.html")
    >>> with replacing(target) as file:
    ...     _ = file.write_text("<html>")
    >>> target.read_text()
    '<html>'
    """
    if _is_written_through(path):
        yield path
        return
    require_folder(path)
    draft = path.with_name(f".{uuid.uuid4().hex}.partial")
    # O_EXCL follows no link; the umask decides on the mode, as for any file.
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def require_folder(path: Path | None) -> None:
    """Raise NotADirectoryError if a file cannot be written because its folder is not there."""
    if path is not None and not path.parent.is_dir():
        raise NotADirectoryError(f"cannot write {path}: there is no folder {path.parent}")


def _is_written_through(path: Path) -> bool:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    if stat.S_ISLNK(status.st_mode):
        return status.st_uid in (os.geteuid(), 0)
    return not stat.S_ISREG(status.st_mode)
