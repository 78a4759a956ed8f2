"""Bytes in the database: each content once, by SHA-256, in chunks of one mebibyte.

A content becomes visible when its transaction commits; a writer that is killed leaves nothing.
Memory is bounded: one chunk for large files, BATCH for many small ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from mlflow_timescale.artifacts import ledger
from mlflow_timescale.artifacts.hashing import BackgroundHasher, FileDigest, Hasher, blocks
from mlflow_timescale.artifacts.locations import turn
from mlflow_timescale.artifacts.paths import clash, parents, require_tree
from mlflow_timescale.db import Connection, load, rows

CHUNK = 1 << 20
BATCH = 8 * CHUNK
LAST = 2**31 - 1
_queries = load("artifacts")


@dataclass(frozen=True)
class StoredContent:
    """A stored content."""

    content_id: int
    fingerprint: FileDigest


@dataclass
class Writer:
    """Writes files in one transaction: small ones in batches, large ones as streams."""

    conn: Connection
    written: dict[str, StoredContent] = field(default_factory=dict)
    _small: dict[str, bytes] = field(default_factory=dict)
    _waiting: int = 0

    def add(self, path: str, stream: Any) -> None:
        """Read a binary stream to its end and write it under a path."""
        chunks = blocks(stream, CHUNK)
        first = next(chunks, b"")
        if len(first) == CHUNK:
            self.written[path] = _write_large(self.conn, first, chunks)
            return
        self._small[path] = first
        self._waiting += len(first)
        if self._waiting >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write the buffered small files."""
        if self._small:
            self.written.update(_write_small(self.conn, self._small))
        self._small, self._waiting = {}, 0

    def finish(self) -> dict[str, FileDigest]:
        """Point the paths at the new contents; free the contents that they pointed at before.

        The files enter the ledger in the same call of the database. Raises MlflowException if a
        path is a file, and a directory of another one, and what `ledger.record` raises.
        """
        self.flush()
        paths = sorted(self.written)
        _require_no_clash(self.conn, paths)
        content_ids = [self.written[path].content_id for path in paths]
        release(self.conn, ledger.put_files(self.conn, paths, content_ids))
        return {path: content.fingerprint for path, content in self.written.items()}


def _require_no_clash(conn: Connection, paths: list[str]) -> None:
    """Refuse a file where a directory is, and a directory where a file is."""
    require_tree(paths)
    # Two writers that add a file and a directory of one name see neither the other's row nor a
    # conflict of keys, so the writers of one run take turns from here until they commit.
    values = {
        "paths": paths,
        "above": sorted({above for path in paths for above in parents(path)}),
        "turns": sorted({turn(path) for path in paths}),
    }
    conn.execute(_queries.take_turns, values)
    if row := conn.execute(_queries.clash, values).fetchone():
        raise clash(*row)


def _write_large(conn: Connection, first: bytes, rest: Iterable[bytes]) -> StoredContent:
    """Stream chunks in while hashing them; drop them if the content is stored already."""
    [content_id] = _new_ids(conn, 1)
    fingerprint = _copy_in(conn, content_id, first, rest).of(content_id).fingerprint
    digest = bytes.fromhex(fingerprint.sha256)
    return StoredContent(_enter(conn, {digest: content_id})[digest], fingerprint)


def _copy_in(
    conn: Connection, content_id: int, first: bytes, rest: Iterable[bytes]
) -> BackgroundHasher[Hasher]:
    with (
        BackgroundHasher(Hasher) as hasher,
        conn.cursor().copy(_queries.copy_chunks_in) as copy,
    ):
        copy.set_types(("int8", "int4", "bytea"))
        for number, data in enumerate(chain([first], rest)):
            hasher.update(content_id, data)
            copy.write_row((content_id, number, data))
    return hasher


def _write_small(conn: Connection, files: dict[str, bytes]) -> dict[str, StoredContent]:
    """Write files of at most one chunk; equal contents are stored once."""
    by_digest = {hashlib.sha256(data).digest(): data for data in files.values()}
    ids = _known(conn, list(by_digest))
    if missing := sorted(set(by_digest) - set(ids)):
        added = dict(zip(missing, _new_ids(conn, len(missing)), strict=True))
        with conn.cursor().copy(_queries.copy_chunks_in) as copy:
            copy.set_types(("int8", "int4", "bytea"))
            for digest, content_id in added.items():
                if by_digest[digest]:
                    copy.write_row((content_id, 0, by_digest[digest]))
        ids |= _enter(conn, added)
    return {
        path: StoredContent(ids[hashlib.sha256(data).digest()], FileDigest.of(data))
        for path, data in files.items()
    }


def _new_ids(conn: Connection, count: int) -> list[int]:
    return rows.scalars(conn, _queries.next_content_ids, {"count": count})


def _enter(conn: Connection, written: dict[bytes, int]) -> dict[bytes, int]:
    """Enter contents whose chunks are written; the id of each, which may be an earlier writer's."""
    values = {
        "content_ids": list(written.values()),
        "digests": list(written),
        "chunk_size": CHUNK,
    }
    with ledger.refusals():
        return dict(conn.execute(_queries.store_contents, values).fetchall())


def _known(conn: Connection, digests: list[bytes]) -> dict[bytes, int]:
    """The stored contents among these digests, locked until the transaction ends."""
    if not digests:
        return {}
    return dict(conn.execute(_queries.known_contents, {"digests": digests}).fetchall())


def read(
    conn: Connection, content_ids: Iterable[int], first: int = 0, last: int = LAST
) -> Iterator[tuple[int, int, bytes]]:
    """Stream chunks as (content, number, bytes), in order."""
    values = {"content_ids": sorted(set(content_ids)), "first": first, "last": last}
    with closing(conn.cursor()) as cursor, cursor.copy(_queries.copy_chunks_out, values) as copy:
        copy.set_types(("int8", "int4", "bytea"))
        yield from copy.rows()


def release(conn: Connection, content_ids: Iterable[int]) -> None:
    """Delete the contents that no path refers to any longer.

    Contents that another transaction holds a lock on, to refer to them, are skipped; if that
    transaction fails, `sweep` deletes them later.
    """
    candidates = sorted(set(content_ids))
    if not candidates:
        return
    conn.execute(_queries.release_contents, {"content_ids": candidates})


def sweep(conn: Connection) -> None:
    """Delete every content that no path refers to."""
    release(conn, [row[0] for row in conn.execute(_queries.unreferenced)])
