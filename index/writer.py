"""The one thread that writes: it owns the only connection that may, commits in groups, makes room.

What an acknowledgement means. `submit` returns at once; the entry is committed when its group is:
`linger_s` later at most, plus the commit. A commit survives the death of the process (kill -9) at
once, and a power cut after the next checkpoint. Only purges are forced to disk there and then.

When nothing can be written (disk full, over quota, failing, held by someone else) the store keeps
answering, drops what it is given and counts it, and tries again every `retry_s`.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from threading import Thread
from time import monotonic  # noqa: TID251  ticks and retries of this thread, no decision
from typing import Annotated, Protocol

import numpy as np
from annotated_types import Gt, Interval
from numpy.typing import NDArray

from index.database import CacheFile, Transaction, Unreadable, damaged, pragma
from index.entry import Entry, PartitionKey, Purge
from index.queue import Job, Put, Queue, T
from index.room import Dues, Room, measure
from index.rows import Stored, candidates, delete, encode_vector, insert, outline

log = logging.getLogger("promptedge.store")

_ATTEMPTS = 3
_EXPIRE_ROWS = 200
_EVICTIONS_MAX = 10
"""Helpings of evictions after one group, so that a long one does not keep the next from disk."""
_DELETE_ROWS = 500
_SWEEP_ROWS = 2_000
_VACUUM_PAGES = 256
_PROBE_BYTES = 64 << 10


class FileNotOpen(OSError):  # noqa: N818  reads as what happened
    """The disk did not let the cache file be opened; it is tried again every `retry_s`."""


@dataclass(frozen=True, slots=True)
class StoreSettings:
    max_bytes: Annotated[int, Gt(1 << 20)] = 4 << 30
    """Size of cache.db at most; its log adds up to some `checkpoint_bytes`."""
    tenant_share: Annotated[float, Interval(gt=0, le=1)] = 0.2
    """Of `max_bytes`. A tenant that has more yields first when others want room, and gets more only
    for what is asked for again; alone it may have everything."""
    min_free_bytes: Annotated[int, Gt(0)] = 256 << 20
    """Nothing is stored while the disk has less free space than this."""
    entry_max_bytes: Annotated[int, Gt(0)] = 4 << 20
    """A larger answer is not kept."""
    queue_entries_max: Annotated[int, Gt(0)] = 4096
    """Answers waiting to be written; more are dropped, because writing must never delay one."""
    queue_bytes_max: Annotated[int, Gt(0)] = 32 << 20
    """The same bound in bytes."""
    linger_s: Annotated[float, Interval(gt=0, le=0.05)] = 0.01
    """How long the first answer of a group waits for others, to share one commit."""
    checkpoint_bytes: Annotated[int, Gt(0)] = 4 << 20
    """Size of the log at which it is copied into the file even while answers are waiting. They wait
    for the disk meanwhile, so it is small: 4 MiB took up to 45 ms on a busy machine, 16 MiB 100."""
    expired_kept_s: Annotated[float, Interval(gt=0, le=86_400)] = 3600.0
    """Expired answers are deleted this much later: a wrong clock must not empty the cache. Later
    still where they may be served for longer (`cache.stale_if_error_s`)."""
    retry_s: Annotated[float, Interval(gt=0, le=5)] = 2.0
    """How often a store that cannot write tries again."""
    tick_s: Annotated[float, Gt(0)] = 5.0
    """How often hits are written down, expired answers deleted and free pages given back."""


class Follower(Protocol):
    """Who keeps in step with the file. Called on the writer's thread, after the commit."""

    def stored(self, puts: Sequence[Put]) -> None: ...
    def removed(self, ids: Sequence[int]) -> None: ...
    def emptied(self) -> None:
        """The file was set aside: nothing that was stored is stored now."""

    def touched(self) -> Sequence[tuple[int, int]]:
        """(id, hits) since the last call."""


@dataclass(slots=True)
class Counters:
    """Written by the writer's thread, except `dropped_*`; read by anyone."""

    entries: int = 0
    file_bytes: int = 0
    written: int = 0
    evicted: int = 0
    expired: int = 0
    purged: int = 0
    rotten: int = 0
    """Rows whose checksum did not match."""
    set_aside: int = 0
    """Files found damaged, foreign or of another format."""
    dropped_busy: int = 0
    dropped_unwritable: int = 0
    failed: int = 0
    """Groups lost to an unforeseen error, which is in the log."""
    unwritable: bool = False


class Writer:
    def __init__(
        self, settings: StoreSettings, file: CacheFile, follower: Follower, counters: Counters
    ) -> None:
        self._settings = settings
        self._file = file
        self._follower = follower
        self._counters = counters
        self._connection: sqlite3.Connection | None = None
        self.queue = Queue(settings.queue_entries_max, settings.queue_bytes_max, settings.linger_s)
        self._tick_at = 0.0
        self._checkpoint_at = settings.checkpoint_bytes
        self._room = Room(settings.max_bytes, settings.tenant_share)
        self.last_id = 0
        """The highest id in the file when it was opened."""
        self._thread = Thread(target=self._run, name="store-writer", daemon=True)

    def start(self) -> None:
        """Open the file, or an empty one in its place, or none while the disk does not allow it."""
        try:
            self._adopt(self._file.open())
        except Unreadable as exc:
            self._start_over(str(exc), exc.__cause__)
        except (sqlite3.Error, OSError) as exc:
            self._suffer(exc)
        self._thread.start()

    # From any thread.

    def submit(self, put: Put) -> bool:
        """Queue an entry; False when it was dropped. Never blocks."""
        with self.queue.lock:  # over the counts too: they are of several threads
            if self._counters.unwritable:
                self._counters.dropped_unwritable += 1
                return False
            if not self.queue.put(put):
                self._counters.dropped_busy += 1
                return False
            return True

    def run(self, work: Callable[[], T]) -> Future[T]:
        """Run `work` on the writer's thread, after everything before it. Raises StoreClosed."""
        return self.queue.run(work)

    def close(self) -> None:
        """Write what is queued, copy the log into the file, end the thread."""
        self.queue.close()
        self._thread.join()

    # On the writer's thread, through `run`.

    def sweep(self, purges: Sequence[Purge], doomed: Callable[[int, Entry], bool]) -> set[int]:
        """Delete what `purges` may cover and is `doomed`, forced to disk; the ids deleted.

        `doomed` is given entries without their answers. A purge that cannot be written wins all
        the same: then the whole file goes.
        """
        swept: set[int] = set()
        try:
            connection = self._opened()
            connection.execute("PRAGMA synchronous=FULL")
            ids = self._doomed(connection, purges, doomed)
            while batch := list(islice(ids, _DELETE_ROWS)):
                self._delete(connection, batch)
                swept.update(batch)
            connection.execute("PRAGMA synchronous=NORMAL")
        except (sqlite3.Error, OSError) as exc:
            self._start_over("purge", exc, keep=False)
        self._counters.purged += len(swept)
        return swept

    def _doomed(
        self,
        connection: sqlite3.Connection,
        purges: Iterable[Purge],
        doomed: Callable[[int, Entry], bool],
    ) -> Iterator[int]:
        for purge in purges:
            where, values = candidates(purge)
            reached = -1
            while rows := connection.execute(
                f"SELECT id, scope, key, model, origin FROM entry WHERE {where} AND id > ?"
                " ORDER BY id LIMIT ?",
                (*values, reached, _SWEEP_ROWS),
            ).fetchall():
                for row in rows:
                    stored = outline(row)
                    if stored is None or doomed(stored.id, stored.entry):
                        yield row[0]
                reached = rows[-1][0]
                self._write_waiting()  # what waits must not wait for the end of this

    def drop_rotten(self, id_: int) -> None:
        self._counters.rotten += self._delete(self._opened(), [id_])

    def put_vector(self, id_: int, partition: PartitionKey, vector: NDArray[np.float32]) -> bool:
        """Store a vector that was made here, in place of one that was not; False when its entry
        has left."""
        connection = self._opened()
        with Transaction(connection):
            if not connection.execute("SELECT 1 FROM entry WHERE id=?", (id_,)).fetchall():
                return False
            columns = encode_vector(id_, partition, vector, proven=True)
            connection.execute("REPLACE INTO vec VALUES(?, ?, ?, ?, ?)", columns)
        return True

    def drop(self, id_: int) -> None:
        """Somebody found that it must not be here."""
        self._delete(self._opened(), [id_])

    def use_encoder(self, fingerprint: str) -> None:
        """Vectors of another encoder are of no use; their entries still are."""
        connection = self._opened()
        (known,) = connection.execute("SELECT value FROM stamp WHERE name='encoder'").fetchone()
        if known != fingerprint:
            with Transaction(connection):
                connection.execute("DELETE FROM vec")
                connection.execute("UPDATE stamp SET value=? WHERE name='encoder'", (fingerprint,))

    def set_aside(self) -> None:
        """Somebody found the file damaged."""
        self._start_over("corrupt", None)

    # The thread itself.

    def _run(self) -> None:
        while True:
            puts, job = self.queue.take(max(0.0, self._tick_at - monotonic()))
            try:
                if puts:
                    self._write(puts)
                if job is not None:
                    self._do(job)
                self._tick()
            except Exception:
                # Nothing foreseen: whatever it was, the next group deserves its try.
                log.exception("event=failed action=dropped entries=%d", len(puts))
                self._counters.failed += 1
            if self.queue.ended:
                break
        self._finish()

    def _write_waiting(self) -> None:
        """Between the parts of long work: what waits must not wait for the end of it."""
        if puts := self.queue.take_puts():
            self._write(puts)

    def _do(self, job: Job) -> None:
        try:
            job.done.set_result(job.work())
        except Exception as exc:
            job.done.set_exception(exc)
            if isinstance(exc, sqlite3.Error):
                self._suffer(exc)

    def _write(self, puts: list[Put]) -> None:
        try:
            if not self._written(puts):
                self._counters.dropped_unwritable += len(puts)
        finally:
            self.queue.written(puts)
        self._guarded(self._checkpoint_if_long)

    def _written(self, puts: list[Put]) -> bool:
        for _ in range(_ATTEMPTS):
            if self._counters.unwritable:
                break
            try:
                if self._file.free_bytes() < self._settings.min_free_bytes:
                    self._stop_writing("disk_full")
                    break
                connection = self._opened()
                self._make_room(connection, puts)
                self._commit(connection, puts)
                return True
            except (sqlite3.Error, OSError) as exc:
                self._suffer(exc)
        return False

    def _commit(self, connection: sqlite3.Connection, puts: list[Put]) -> None:
        replaced: list[int] = []
        with Transaction(connection):
            for put in puts:
                stored = Stored(put.id, put.entry)
                replaced += insert(
                    connection,
                    stored,
                    put.vector,
                    proven=put.proven,
                    age=self._room.age,
                    pinned_bytes_max=self._room.pinned_bytes_max,
                )
        gone = set(replaced)
        self._counters.entries += len(puts) - len(replaced)
        self._counters.written += len(puts)
        if replaced:
            self._follower.removed(replaced)
        self._follower.stored([put for put in puts if put.id not in gone])

    def _suffer(self, exc: sqlite3.Error | OSError) -> None:
        """Answer a failure so that the same work may be tried again, or is known to be in vain."""
        if isinstance(exc, sqlite3.Error) and damaged(exc):
            self._start_over("corrupt", exc)
        elif getattr(exc, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL and (
            self._room.nearly_full(self._counters.file_bytes)
        ):
            try:
                self._evict(self._opened(), self._room.margin_bytes, {})
            except sqlite3.Error as again:
                self._stop_writing(str(again))
        else:
            self._stop_writing(str(exc))

    def _guarded(self, work: Callable[[sqlite3.Connection], object]) -> None:
        try:
            work(self._opened())
        except (sqlite3.Error, OSError) as exc:
            if not self._counters.unwritable:
                self._suffer(exc)

    # Room.

    def _make_room(self, connection: sqlite3.Connection, puts: Sequence[Put]) -> None:
        nbytes = sum(put.nbytes for put in puts)
        dues: Dues | None = None
        for _ in range(_EVICTIONS_MAX):
            excess = self._measure(connection) + nbytes - self._room.limit_bytes
            if excess <= 0:
                return
            if dues is None:
                dues = self._room.dues(connection, [(put.entry, put.nbytes) for put in puts])
            if not self._evict(connection, excess, dues):
                return

    def _measure(self, connection: sqlite3.Connection) -> int:
        self._counters.file_bytes = measure(connection)
        return self._counters.file_bytes

    def _evict(self, connection: sqlite3.Connection, nbytes: int, dues: Dues) -> int:
        """Delete expired entries, else those whose turn it is, worth about `nbytes`."""
        if expired := self._expire(connection):
            return expired
        evicted = self._delete(connection, self._room.victims(connection, nbytes, dues))
        self._counters.evicted += evicted
        return evicted

    def _expire(self, connection: sqlite3.Connection) -> int:
        past = self._file.now() - self._settings.expired_kept_s
        found = connection.execute(
            "SELECT id FROM entry WHERE expires_at < ? LIMIT ?", (past, _EXPIRE_ROWS)
        )
        count = self._delete(connection, [id_ for (id_,) in found.fetchall()])
        self._counters.expired += count
        return count

    def _delete(self, connection: sqlite3.Connection, ids: Sequence[int]) -> int:
        if not ids:
            return 0
        with Transaction(connection):
            count = delete(connection, ids)
        self._counters.entries -= count
        self._follower.removed(ids)
        return count

    # Now and then.

    def _tick(self) -> None:
        now = monotonic()
        if now < self._tick_at:
            return
        self._tick_at = now + self._settings.tick_s
        if self._counters.unwritable:
            self._try_again()
            self._tick_at = now + self._settings.retry_s
            return
        self._guarded(self._tidy)

    def _tidy(self, connection: sqlite3.Connection) -> None:
        self._write_down_hits(connection)
        if self._expire(connection) == _EXPIRE_ROWS:
            self._tick_at = 0.0  # there are more, and this was one helping
        self._give_back(connection)
        if not self.queue:
            self._checkpoint(connection)

    def _write_down_hits(self, connection: sqlite3.Connection) -> None:
        hits = self._follower.touched()
        for batch in _batches(hits, _DELETE_ROWS):
            with Transaction(connection):
                self._room.write_down_hits(connection, batch)
            self._write_waiting()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        """Shrink the file, a little at a time, when much of it is free."""
        free, pages = pragma(connection, "freelist_count"), pragma(connection, "page_count")
        if free > pages // 8 and not self.queue:
            # As a script, which runs to the end: `execute` would stop after the first page.
            connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
            self._tick_at = monotonic() + 0.05
        self._measure(connection)

    def _checkpoint_if_long(self, connection: sqlite3.Connection) -> None:
        if self._file.log_bytes() >= self._checkpoint_at:
            self._checkpoint(connection)

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        if not (size := self._file.log_bytes()):
            return
        _, frames, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        # A reader may hold back a part: try again when the log has grown by as much once more.
        behind = 0 if copied == frames else size
        self._checkpoint_at = behind + self._settings.checkpoint_bytes

    # Trouble.

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise FileNotOpen("the cache file is not open")
        return self._connection

    def _adopt(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        pages = self._settings.max_bytes // pragma(connection, "page_size")
        connection.execute(f"PRAGMA max_page_count={pages}").fetchall()
        self._room.adopt(connection)
        self.last_id, self._counters.entries = connection.execute(
            "SELECT ifnull((SELECT max(id) FROM entry), 0), (SELECT count(*) FROM entry)"
        ).fetchone()
        self._measure(connection)

    def _start_over(self, why: str, cause: BaseException | None, *, keep: bool = True) -> None:
        """Leave the file behind, set aside or deleted, and begin an empty one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._counters.entries = 0
        try:
            if keep:
                aside = self._file.set_aside(why)
                self._counters.set_aside += 1
                log.error("event=corrupt action=quarantined file=%s cause=%r", aside, cause or why)
            else:
                self._file.delete()
                log.error("event=%s action=file_deleted cause=%r", why, cause)
            self._adopt(self._file.open())
        except (sqlite3.Error, Unreadable, OSError) as exc:
            self._stop_writing(str(exc))
        self._follower.emptied()

    def _stop_writing(self, cause: str) -> None:
        if not self._counters.unwritable:
            log.warning("event=disk_full mode=no_store cause=%r", cause)
        self._counters.unwritable = True
        self._tick_at = monotonic() + self._settings.retry_s

    def _try_again(self) -> None:
        try:
            if self._file.free_bytes() < self._settings.min_free_bytes:
                return
            if self._connection is None:
                self._adopt(self._file.open())
            with Transaction(connection := self._opened()):
                connection.execute(
                    "REPLACE INTO stamp VALUES('probe', zeroblob(?))", (_PROBE_BYTES,)
                )
            with Transaction(connection):
                connection.execute("DELETE FROM stamp WHERE name='probe'")
        except Unreadable as exc:
            self._start_over(str(exc), exc.__cause__)
            return
        except (sqlite3.Error, OSError) as exc:
            if isinstance(exc, sqlite3.Error) and damaged(exc):
                self._start_over("corrupt", exc)
            return
        self._counters.unwritable = False
        log.warning("event=disk_full mode=ended dropped=%d", self._counters.dropped_unwritable)

    def _finish(self) -> None:
        if self._connection is None:
            return
        try:
            if not self._counters.unwritable:
                self._write_down_hits(self._connection)
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as exc:
            log.warning("event=close_incomplete cause=%r", str(exc))
        self._connection.close()


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
