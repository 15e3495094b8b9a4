"""The file `cache.db`: who owns it, which layout it has, and what happens when it cannot be read.

The file may be deleted at any time with no loss but warmth, so there is one answer to every kind
of damage: set it aside under a name that says why, start empty, and go on. A file of another
format, of another key normaliser or of another application is never read, only set aside.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from index.rows import FORMAT

NAME: Final = "cache.db"
wall_clock = time.time  # noqa: TID251  dates files set aside; deletes long after expiry
APPLICATION_ID: Final = 0x50724564  # "PrEd"
ID_MAX: Final = 1 << 62
ASIDE_MAX: Final = 2
"""Files set aside that are kept, newest first: a disk that rots must not also fill up."""

_SCHEMA: Final = (
    "CREATE TABLE stamp(name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    # `entry` is narrow, so that counting hits, ordering for eviction and purging by model rewrite
    # and read no answers. `turn` orders eviction, among all and within a scope; `room` is what
    # each scope holds, `pinned` what is pinned in all: see index/room.py.
    "CREATE TABLE entry(id INTEGER PRIMARY KEY, scope BLOB NOT NULL, key BLOB NOT NULL,"
    " model BLOB NOT NULL, stored_at REAL NOT NULL, expires_at REAL NOT NULL,"
    " size INTEGER NOT NULL, tokens INTEGER NOT NULL, worth REAL NOT NULL, hits INTEGER NOT NULL,"
    " turn REAL NOT NULL, pinned INTEGER NOT NULL, question BLOB, origin BLOB NOT NULL,"
    " checksum BLOB NOT NULL, UNIQUE(scope, key))",
    "CREATE INDEX entry_turn ON entry(pinned, turn)",
    "CREATE INDEX entry_scope_turn ON entry(scope, pinned, turn)",
    "CREATE TABLE room(scope BLOB PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX room_bytes ON room(bytes)",
    "CREATE TRIGGER room_taken AFTER INSERT ON entry BEGIN"
    " INSERT INTO room VALUES(NEW.scope, NEW.size)"
    " ON CONFLICT(scope) DO UPDATE SET bytes = bytes + excluded.bytes; END",
    "CREATE TRIGGER room_given AFTER DELETE ON entry BEGIN"
    " UPDATE room SET bytes = bytes - OLD.size WHERE scope = OLD.scope;"
    " DELETE FROM room WHERE scope = OLD.scope AND bytes <= 0; END",
    "CREATE TABLE pinned(bytes INTEGER NOT NULL)",
    "CREATE TRIGGER pinned_taken AFTER INSERT ON entry WHEN NEW.pinned BEGIN"
    " UPDATE pinned SET bytes = bytes + NEW.size; END",
    "CREATE TRIGGER pinned_given AFTER DELETE ON entry WHEN OLD.pinned BEGIN"
    " UPDATE pinned SET bytes = bytes - OLD.size; END",
    "CREATE INDEX entry_expires ON entry(expires_at)",
    "CREATE TABLE body(id INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    "CREATE TABLE vec(id INTEGER PRIMARY KEY, partition BLOB NOT NULL, emb BLOB NOT NULL,"
    " proven INTEGER NOT NULL, checksum BLOB NOT NULL)",
)

_DAMAGED: Final = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_ERROR}
)


ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""What reading raises. The latter when a message of SQLite's quotes a schema that is rotten."""


class DirectoryInUse(RuntimeError):  # noqa: N818  reads as the sentence it prints
    """Another process owns the data directory."""


class Unreadable(Exception):  # noqa: N818  a finding about the file, answered by setting it aside
    """This file must not be read. The argument says why, as a word for its new name."""


def damaged(error: sqlite3.Error | UnicodeDecodeError) -> bool:
    """True when the file is at fault; False when the disk is (full, failing, locked)."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by Python: text that is no UTF-8, or a call that is our own mistake
        return not isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError)
    return code & 255 in _DAMAGED


def lock(directory: Path) -> int:
    """Own `directory` until the descriptor is closed or the process ends, however it ends."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / "promptedge.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise DirectoryInUse(
            f"{directory} is in use by another promptedge (process {owner or 'unknown'}): "
            "stop that one, or give this node a directory of its own with --data"
        ) from exc
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


class Transaction:
    """All of it or nothing; also when the commit itself fails."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


def pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


class CacheFile:
    """`cache.db` in a directory this process owns; nothing else opens, renames or deletes it.

    `normaliser` names the rules (and the secret) that cache keys were made with: keys made
    otherwise can never be asked for again.
    """

    def __init__(self, directory: Path, normaliser: str, clock: Callable[[], float]) -> None:
        self.directory = directory
        self.path = directory / NAME
        self.now = clock
        self._normaliser = normaliser
        self.epoch = 0
        """Counts what was under this name: another file, or none. It changes when that is done, so
        that a reader which was opened meanwhile must open again, as one of an earlier file must."""

    def open(self) -> sqlite3.Connection:
        """The one connection that writes. Raises `Unreadable`; sqlite3.Error if the disk fails."""
        # check_same_thread: opened by whoever starts the store, used by the writer's thread alone.
        connection = sqlite3.connect(
            self.path, timeout=1.0, isolation_level=None, check_same_thread=False
        )
        try:
            _open(connection, self._normaliser)
        except ERRORS as exc:
            connection.close()
            if damaged(exc):
                raise Unreadable("corrupt") from exc
            raise
        except Unreadable:
            connection.close()
            raise
        self.epoch += 1
        return connection

    def open_reader(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=1.0,
            isolation_level=None,
            check_same_thread=False,
        )
        # A flipped bit may turn a blob into text that is no UTF-8: hand it over as bytes, the
        # checksum will say what it is.
        connection.text_factory = bytes
        return connection

    def free_bytes(self) -> int:
        """What the disk has left for us."""
        disk = os.statvfs(self.directory)
        return disk.f_bavail * disk.f_frsize

    def log_bytes(self) -> int:
        try:
            return os.stat(f"{self.path}-wal").st_size
        except FileNotFoundError:
            return 0

    def set_aside(self, why: str) -> Path:
        """Rename file and log, the newest `ASIDE_MAX` kept. The writer's connection is closed."""
        when = datetime.fromtimestamp(max(0.0, min(self.now(), 4e9)), UTC)
        name = f"{self.path}.{why}-{when:%Y%m%dT%H%M%SZ}"
        aside = next(
            free for n in range(10_000) if not (free := Path(f"{name}.{n}" if n else name)).exists()
        )
        for suffix in ("-wal", ""):  # the log first: it must never meet another file of this name
            if (old := Path(f"{self.path}{suffix}")).exists():
                old.rename(f"{aside}{suffix}").touch()
        Path(f"{self.path}-shm").unlink(missing_ok=True)
        self.epoch += 1
        _forget_oldest(self.path)
        return aside

    def delete(self) -> None:
        """Remove the file and its log. The writer's connection is closed."""
        _delete(self.path)
        self.epoch += 1


def _open(connection: sqlite3.Connection, normaliser: str) -> None:
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # counts only before the first table
    connection.execute("PRAGMA secure_delete=FAST")
    connection.execute("PRAGMA mmap_size=0")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables:
        _verify(connection, normaliser)
    connection.execute("PRAGMA journal_mode=WAL").fetchall()
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint=0").fetchall()
    # The log shrinks again when it starts over, so that its size says what is in it.
    connection.execute("PRAGMA journal_size_limit=0").fetchall()
    connection.execute("PRAGMA cell_size_check=ON")
    if not tables:
        _create(connection, normaliser)


def _verify(connection: sqlite3.Connection, normaliser: str) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise Unreadable("foreign")
    if version != FORMAT:
        raise Unreadable(f"format{version}")
    found = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master") if sql]
    if sorted(found) != sorted(_SCHEMA):
        raise Unreadable("corrupt")
    stamps = dict(connection.execute("SELECT name, value FROM stamp"))
    if stamps.get("format") != str(FORMAT) or "encoder" not in stamps:
        raise Unreadable("corrupt")
    if stamps.get("normaliser") != normaliser:
        raise Unreadable("otherkeys")
    (last,) = connection.execute("SELECT max(id) FROM entry").fetchone()
    if not 0 <= (last or 0) < ID_MAX:
        raise Unreadable("corrupt")


def _create(connection: sqlite3.Connection, normaliser: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.executemany(
        "INSERT INTO stamp VALUES(?, ?)",
        [("format", str(FORMAT)), ("normaliser", normaliser), ("encoder", "")],
    )
    connection.execute("INSERT INTO pinned VALUES(0)")
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={FORMAT}")
    connection.execute("COMMIT")
    # Until the first checkpoint the tables exist in the log alone, and go with it.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _forget_oldest(path: Path) -> None:
    aside = [
        found
        for found in path.parent.glob(f"{path.name}.*-*")
        if not found.name.endswith(("-wal", "-shm"))
    ]
    for old in sorted(aside, key=lambda found: found.stat().st_mtime)[:-ASIDE_MAX]:
        _delete(old)


def _delete(path: Path) -> None:
    for suffix in ("-wal", "-shm", ""):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
