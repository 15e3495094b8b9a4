"""The tables of `fleet.db`, and values as rows of them; `sync.outbox` says when to write."""

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgpack

from index.database import Transaction
from index.entry import NodeName, Purged, Scope, Seen, Version
from sync.frames import payload_of, peek
from sync.messages import Kind, MessageError, unpack
from sync.seams import Cursor, Kept, Logged

NAME: Final = "fleet.db"
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS stamp(name TEXT PRIMARY KEY, value BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS log(position INTEGER PRIMARY KEY, origin TEXT NOT NULL,"
    " scope TEXT NOT NULL, reach TEXT NOT NULL, frame BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS purge(name BLOB PRIMARY KEY, version INTEGER NOT NULL,"
    " frame BLOB NOT NULL, checksum BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS seen(node TEXT PRIMARY KEY, version INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS line(node TEXT PRIMARY KEY, line BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS cursor(source TEXT PRIMARY KEY, position INTEGER NOT NULL,"
    " run BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS run(number INTEGER PRIMARY KEY, run BLOB NOT NULL,"
    " began INTEGER NOT NULL)",
)
_REACH_SEPARATOR: Final = "\n"

Statement = tuple[str, Sequence[tuple[Any, ...]]]
"""SQL, and the values to run it with, once for each row."""


class Rotten(Exception):  # noqa: N818  a finding about the file
    """The file is whole as SQLite sees it, and not what was written."""


def connected(path: Path | str) -> sqlite3.Connection:
    """Raises sqlite3.Error."""
    file = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
    try:
        file.execute("PRAGMA journal_mode=WAL").fetchall()
        file.execute("PRAGMA synchronous=NORMAL")
        file.execute("PRAGMA journal_size_limit=4194304").fetchall()
        with Transaction(file):
            for statement in _SCHEMA:
                file.execute(statement)
        ((found, *_),) = file.execute("PRAGMA quick_check(1)")
        if found != "ok":
            raise sqlite3.DatabaseError(found)
    except sqlite3.Error:
        file.close()
        raise
    return file


def name_of(purged: Purged) -> bytes:
    """What two acts share of which the later says it all."""
    purge = purged.purge
    named = (purged.by, purge.scope, purge.label, purge.key, purged.soft)
    return hashlib.blake2b(msgpack.packb(named), digest_size=16).digest()


def lines_in(directory: Path) -> list[bytes]:
    """The roster on disk, whoever owns it now. Raises OSError."""
    try:
        file = sqlite3.connect(f"{(directory / NAME).absolute().as_uri()}?mode=ro", uri=True)
        try:
            return [line for (line,) in file.execute("SELECT line FROM line")]
        finally:
            file.close()
    except sqlite3.Error as exc:
        raise OSError(f"{directory / NAME}: {exc}") from exc


# Writing.


def stamps(values: Mapping[str, Any]) -> Statement:
    return "REPLACE INTO stamp VALUES(?,?)", list(values.items())


def logged(one: Logged) -> Statement:
    reach = _REACH_SEPARATOR.join(one.reach)
    row = (one.position, one.origin, one.scope, reach, one.frame)
    return "INSERT INTO log VALUES(?,?,?,?,?)", [row]


def purges(kept: Mapping[bytes, Kept]) -> Statement:
    """By their names."""
    return "REPLACE INTO purge VALUES(?,?,?,?)", [
        (name, one.purged.version, one.frame, _checksum(one.frame)) for name, one in kept.items()
    ]


def lines(by_name: Mapping[str, bytes]) -> Statement:
    return "REPLACE INTO line VALUES(?,?)", list(by_name.items())


def cursors(of: Mapping[NodeName, Cursor]) -> Statement:
    rows = [(source, one.position, one.run) for source, one in of.items()]
    return "REPLACE INTO cursor VALUES(?,?,?)", rows


def all_seen(seen: Seen) -> list[Statement]:
    return [("DELETE FROM seen", [()]), ("INSERT INTO seen VALUES(?,?)", seen)]


def all_runs(runs: Sequence[tuple[bytes, Version]]) -> list[Statement]:
    rows = [(number, *one) for number, one in enumerate(runs)]
    return [("DELETE FROM run", [()]), ("INSERT INTO run VALUES(?,?,?)", rows)]


# Reading.


def logged_of(position: int, origin: str, scope: str, reach: str, frame: bytes) -> Logged:
    regions = tuple(reach.split(_REACH_SEPARATOR))
    return Logged(Version(position), NodeName(origin), Scope(scope), regions, frame)


def kept_of(frame: bytes, checksum: bytes) -> Kept:
    """Raises Rotten."""
    if _checksum(frame) != checksum:
        raise Rotten("a purge is not what was written")
    try:
        header = peek(frame)
        purged = unpack(Kind.PURGED, payload_of(frame, header), header.origin, header.version)
    except MessageError as exc:
        raise Rotten("a purge cannot be read") from exc
    assert isinstance(purged, Purged)
    return Kept(purged, frame)


def _checksum(frame: bytes) -> bytes:
    return hashlib.blake2b(frame, digest_size=8, person=b"promptedge purge").digest()
