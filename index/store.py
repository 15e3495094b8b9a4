"""Entries and vectors that outlive the process: SQLite, one writer, any number of readers.

    index/rows.py ........ bytes of a row and their checksum
    index/database.py .... the file: owner, layout, damage
    index/room.py ........ who leaves when room is short
    index/queue.py ....... what waits to be written
    index/writer.py ...... the thread that writes: groups, trouble, what is done now and then
    here ................. what the rest of the house asks for

Reading blocks for the disk (some 30 us when cached) and is safe from any thread; `put` never
blocks. Nothing is returned whose checksum does not match: that row is deleted, counted, a miss.
A failing disk is a miss as well, never an exception.
"""

import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.database import ERRORS, CacheFile, DirectoryInUse, damaged, lock, wall_clock
from index.entry import CacheKey, Entry, PartitionKey, Purge, Question, Scope, Timestamp
from index.queue import Put, StoreClosed, T
from index.rows import (
    COLUMNS,
    RottenRow,
    Stored,
    candidates,
    decode,
    decode_vectors,
    outline,
    question_of,
    question_text,
)
from index.writer import Counters, Follower, StoreSettings, Writer

__all__ = ["DirectoryInUse", "Store", "StoreSettings", "StoreStats", "VectorBatch"]

WAITING_MAX = 256
"""Of the answers that wait to be written, how many are looked through for a question."""

_READERS_KEPT = 4
_VECTORS_AT_ONCE = 2048
_IDS_AT_ONCE = 1_000
_LONG_AGO = Timestamp(0.0)
_VECTORS = "SELECT id, partition, emb, proven, checksum FROM vec"
_ENTRIES = f"SELECT {COLUMNS} FROM entry e LEFT JOIN body b ON b.id = e.id "


@dataclass(frozen=True, slots=True)
class VectorBatch:
    """Vectors of one partition: ids (n), unit vectors (n, d) of the values that were stored."""

    partition: PartitionKey
    ids: list[int]
    vectors: NDArray[np.float32]
    unproven: list[int]
    """Those of the ids whose vector came from elsewhere and was not compared yet."""


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Counts since the start, and the state of the file; see `index.writer.Counters`."""

    entries: int
    file_bytes: int
    max_bytes: int
    hits: int
    misses: int
    written: int
    evicted: int
    expired: int
    purged: int
    rotten: int
    set_aside: int
    dropped_busy: int
    dropped_unwritable: int
    failed: int
    unwritable: bool
    """True while nothing can be stored: disk full, or failing."""
    queued: int
    queued_bytes: int


class _Nobody:
    """Follows a store that is used alone."""

    def stored(self, puts: Sequence[Put]) -> None: ...
    def removed(self, ids: Sequence[int]) -> None: ...
    def emptied(self) -> None: ...
    def touched(self) -> Sequence[tuple[int, int]]:
        return ()


class Store:
    """Owns `directory` from construction to `close`. Raises DirectoryInUse, OSError."""

    def __init__(
        self,
        directory: Path,
        settings: StoreSettings | None = None,
        *,
        normaliser: str,
        follower: Follower | None = None,
        clock: Callable[[], float] = wall_clock,
    ) -> None:
        self.settings = settings or StoreSettings()
        self._locked = lock(directory)
        self._file = CacheFile(directory, normaliser, clock)
        self._counters = Counters()
        self._writer = Writer(self.settings, self._file, follower or _Nobody(), self._counters)
        self._pending = self._writer.queue.pending  # at hand: every read asks it
        self._readers: deque[tuple[int, sqlite3.Connection]] = deque()
        self._examined: sqlite3.Connection | None = None
        self._examiner: Thread | None = None
        self._ids = Lock()
        self._hits = self._misses = 0
        self._closed = False
        self._writer.start()
        # Without a file to ask, ids begin where no file that we wrote can have come to.
        self.last_id = self._writer.last_id or int(clock() * 1e6) * self._counters.unwritable

    def next_id(self) -> int:
        with self._ids:
            self.last_id += 1
            return self.last_id

    def put(
        self, id_: int, entry: Entry, vector: NDArray[np.float32] | None, *, proven: bool = True
    ) -> bool:
        """Queue `entry` in place of the one with its scope and key; False when it was dropped."""
        if len(entry.body) > self.settings.entry_max_bytes:
            return False
        return self._writer.submit(Put(id_, entry, vector, proven))

    def get(self, scope: Scope, key: CacheKey) -> Stored | None:
        if (put := self._pending.get((scope, key))) is not None:
            return Stored(put.id, put.entry)
        blob, epoch = scope.encode("utf-8", "surrogatepass"), self._file.epoch
        found = self._entry("WHERE e.scope=? AND e.key=?", (blob, key))
        if found and (found.entry.scope != scope or found.entry.key != key):
            self._damage(epoch)  # the row is whole: the index led to a wrong one
            found = None
        if found:
            self._hits += 1
        else:
            self._misses += 1
        return found

    def newest(self, scope: Scope, key: CacheKey) -> Entry | None:
        """What would be replaced under that key, without its answer, unproven; or with it, when it
        is still to be written."""
        if (put := self._pending.get((scope, key))) is not None:
            return put.entry
        where, values = candidates(Purge(scope=scope, key=key))
        rows = self._rows(f"SELECT id, scope, key, model, origin FROM entry WHERE {where}", values)
        found = outline(rows[0]) if rows else None
        return None if found is None else found.entry

    def waiting(self, partition: PartitionKey) -> list[Put]:
        """Questions of the partition that are still to be written, newest first, with vectors."""
        puts = list(self._pending.values())[-WAITING_MAX:]
        return [
            put
            for put in reversed(puts)
            if put.vector is not None
            and put.proven
            and put.entry.question is not None
            and put.entry.question.partition == partition
        ]

    def by_id(self, id_: int) -> Stored | None:
        """The entry, or what is about to take its place."""
        found = self._entry("WHERE e.id=?", (id_,))
        if found is None:
            return None
        put = self._pending.get((found.entry.scope, found.entry.key))
        return found if put is None else Stored(put.id, put.entry)

    def texts(self, ids: Sequence[int]) -> dict[int, tuple[str, bytes]]:
        """Question texts and their packed readings. The texts are unproven: compare with the
        entry's own before serving it."""
        marks = ",".join("?" * len(ids))
        rows = self._rows(f"SELECT id, question FROM entry WHERE id IN ({marks})", tuple(ids))
        return {id_: found for id_, blob in rows if (found := question_text(blob)) is not None}

    def vector(self, stored: Stored, dimensions: int) -> tuple[NDArray[np.float32], bool] | None:
        """The vector of an entry's question, if it has one, and whether it is proven."""
        put = self._pending.get((stored.entry.scope, stored.entry.key))
        if put is not None and put.id == stored.id:
            return None if put.vector is None else (put.vector, put.proven)
        rows = self._rows(f"{_VECTORS} WHERE id=?", (stored.id,))
        sound, vectors = decode_vectors(rows, dimensions)
        if rows and not sound:
            self._rot(stored.id)
        return (vectors[0], bool(rows[0][3])) if sound else None

    def put_vector(self, id_: int, partition: PartitionKey, vector: NDArray[np.float32]) -> bool:
        """Store the vector of an entry that is there; False when it has left. For the writer's
        thread."""
        return self._writer.put_vector(id_, partition, vector)

    def drop(self, id_: int) -> None:
        """Delete an entry, soon."""
        with suppress(StoreClosed):
            self._writer.run(lambda: self._writer.drop(id_))

    def unembedded(self, after: int, count_max: int) -> list[tuple[int, Question]]:
        """Questions without a vector, unproven, of ids above `after`."""
        rows = self._rows(
            "SELECT e.id, e.question FROM entry e LEFT JOIN vec v ON v.id = e.id"
            " WHERE e.id > ? AND e.question IS NOT NULL AND v.id IS NULL ORDER BY e.id LIMIT ?",
            (after, count_max),
        )
        return [(id_, asked) for id_, blob in rows if (asked := question_of(blob)) is not None]

    def all(self) -> Iterator[Stored]:
        """Every entry, by and by: what comes and goes meanwhile may be among them or not."""
        reached = -1
        while ids := self._rows(
            "SELECT id FROM entry WHERE id > ? ORDER BY id LIMIT ?", (reached, _IDS_AT_ONCE)
        ):
            for (id_,) in ids:
                if (stored := self._entry("WHERE e.id=?", (id_,))) is not None:
                    yield stored
            reached = ids[-1][0]

    def outlines(self) -> Iterator[Stored]:
        """What identifies every entry, unproven and without its answer, by and by."""
        reached = -1
        while rows := self._rows(
            "SELECT id, scope, key, model, origin FROM entry WHERE id > ? ORDER BY id LIMIT ?",
            (reached, _IDS_AT_ONCE),
        ):
            yield from (found for row in rows if (found := outline(row)) is not None)
            reached = rows[-1][0]

    def hottest(self, count_max: int, now: Timestamp = _LONG_AGO) -> Iterator[tuple[Stored, bool]]:
        """Those to keep longest first, and whether each was ever asked for again; of those that
        have not expired, which are kept a while, so many."""
        turns = self._rows(
            "SELECT id, hits FROM entry WHERE expires_at > ?"
            " ORDER BY pinned DESC, turn DESC, id DESC LIMIT ?",
            (now, count_max),
        )
        for id_, hits in turns:
            if (stored := self.by_id(id_)) is not None:
                yield stored, hits > 0

    def vectors(self, dimensions: int, last_id: int, after: int) -> tuple[list[VectorBatch], int]:
        """The next vectors with `after` < id <= `last_id`, by partition, and the last id seen.

        The last id seen is 0 when there are no more.
        """
        rows = self._rows(
            f"{_VECTORS} WHERE id > ? AND id <= ? ORDER BY id LIMIT {_VECTORS_AT_ONCE}",
            (after, last_id),
        )
        sound, vectors = decode_vectors(rows, dimensions)
        for at in set(range(len(rows))) - set(sound):
            self._rot(rows[at][0])
        places: dict[PartitionKey, list[int]] = {}
        for place, at in enumerate(sound):
            places.setdefault(PartitionKey(rows[at][1]), []).append(place)
        batches = [
            VectorBatch(
                partition,
                [rows[sound[place]][0] for place in found],
                vectors[found],
                [rows[sound[place]][0] for place in found if not rows[sound[place]][3]],
            )
            for partition, found in places.items()
        ]
        return batches, rows[-1][0] if rows else 0

    def count_vectors(self) -> int:
        rows = self._rows("SELECT count(*) FROM vec", ())
        return int(rows[0][0]) if rows else 0

    def use_encoder(self, fingerprint: str) -> None:
        """From now on vectors are of this encoder; those of another are deleted."""
        with suppress(sqlite3.Error, OSError):  # then nothing can be stored, nor is it
            self._writer.run(lambda: self._writer.use_encoder(fingerprint)).result()

    def aside(self, work: Callable[[], T]) -> "Future[T]":
        """Do `work` on the writer's thread, after all that was put before. Raises StoreClosed."""
        return self._writer.run(work)

    def sweep(self, purges: Sequence[Purge], doomed: Callable[[int, Entry], bool]) -> set[int]:
        """Delete what `purges` may cover and is `doomed`; on disk when it returns. The ids deleted.

        To be called on the writer's thread; `doomed` is given entries without their answers.
        """
        return self._writer.sweep(purges, doomed)

    def flush(self) -> None:
        """Wait until what was put before is committed, or dropped."""
        self._writer.run(lambda: None).result()

    def examine(self) -> bool:
        """Walk the whole file (1.5 s a GB); a damaged one is set aside. Not for the hot path."""
        try:
            epoch, connection = self._file.epoch, self._file.open_reader()
        except (sqlite3.Error, OSError):
            return False
        self._examined = connection
        try:
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except ERRORS as exc:
            verdict = b"" if damaged(exc) else b"ok"
        finally:
            self._examined = None
            connection.close()
        if verdict != b"ok":
            self._damage(epoch)
        return bool(verdict == b"ok")

    def examine_aside(self) -> None:
        """`examine` on a thread of its own, which `close` interrupts."""
        self._examiner = Thread(target=self.examine, name="store-examiner", daemon=True)
        self._examiner.start()

    def count(self, purge: Purge) -> int:
        """How many stored entries `purge` covers."""
        where, values = candidates(purge)
        if purge.label is None:
            rows = self._rows(f"SELECT count(*) FROM entry WHERE {where}", values)
            return int(rows[0][0]) if rows else 0
        rows = self._rows(f"SELECT id, scope, key, model, origin FROM entry WHERE {where}", values)
        return sum(purge.covers(found.entry) for row in rows if (found := outline(row)))

    @property
    def stats(self) -> StoreStats:
        return StoreStats(
            **asdict(self._counters),
            max_bytes=self.settings.max_bytes,
            hits=self._hits,
            misses=self._misses,
            queued=len(self._writer.queue),
            queued_bytes=self._writer.queue.nbytes,
        )

    def check(self) -> set[int]:
        """Audit the file against itself and the counters; the ids that have a vector. O(n)."""
        self.flush()
        entries = {id_ for (id_,) in self._rows("SELECT id FROM entry", ())}
        bodies = {id_ for (id_,) in self._rows("SELECT id FROM body", ())}
        vectors = {id_ for (id_,) in self._rows("SELECT id FROM vec", ())}
        assert bodies == entries
        assert vectors <= entries
        assert len(entries) == self._counters.entries
        pinned = self._rows("SELECT ifnull(sum(size), 0) FROM entry WHERE pinned", ())
        assert pinned == self._rows("SELECT bytes FROM pinned", ())
        held = self._rows("SELECT scope, sum(size) FROM entry GROUP BY scope", ())
        assert sorted(held) == sorted(self._rows("SELECT scope, bytes FROM room", ()))
        assert self._counters.file_bytes <= self.settings.max_bytes
        return vectors

    def close(self) -> None:
        """Write what is queued, copy the log into the file, give the directory back."""
        if self._closed:
            return
        self._closed = True
        if (examined := self._examined) is not None:
            with suppress(sqlite3.Error):
                examined.interrupt()
        if self._examiner is not None:
            self._examiner.join()
        while self._readers:
            self._readers.pop()[1].close()
        self._writer.close()
        os.close(self._locked)

    def __repr__(self) -> str:
        counters = self._counters
        return (
            f"<Store {self._file.path}: {counters.entries} entries, {counters.file_bytes} bytes, "
            f"{len(self._writer.queue)} queued{', no store' * counters.unwritable}>"
        )

    # Reading.

    def _entry(self, where: str, values: tuple[Any, ...]) -> Stored | None:
        for row in self._rows(_ENTRIES + where, values):
            try:
                return decode(row)
            except RottenRow:
                self._rot(row[0])
        return None

    def _rows(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        epoch = self._file.epoch
        try:
            with self._reader() as connection:
                return connection.execute(sql, values).fetchall()
        except ERRORS as exc:
            if damaged(exc):
                self._damage(epoch)
            return []

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """A connection of this file, for one statement; kept for the next if all went well."""
        try:
            epoch, connection = self._readers.pop()
        except IndexError:
            epoch, connection = self._file.epoch, self._file.open_reader()
        if epoch != self._file.epoch:
            connection.close()
            epoch, connection = self._file.epoch, self._file.open_reader()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if self._closed or len(self._readers) >= _READERS_KEPT:
            connection.close()
        else:
            self._readers.append((epoch, connection))

    def _rot(self, id_: int) -> None:
        if len(self._writer.queue) >= self.settings.queue_entries_max:
            return  # it will be found again
        with suppress(StoreClosed):
            self._writer.run(lambda: self._writer.drop_rotten(id_))

    def _damage(self, epoch: int) -> None:
        """What was there when somebody began to read is damaged; by now there may be another."""

        def set_aside() -> None:
            if epoch == self._file.epoch:  # several readers may have met the same damage
                self._writer.set_aside()

        with suppress(StoreClosed):
            self._writer.run(set_aside)
