"""Memory, store and vectors in step: everything a node remembers, behind one object.

    the event loop .... begin, recall, touch, put, keep, merge: memory only, never blocks
    either ............ accept, newest: memory, and a read of 15 us from the file at times
    worker threads .... fetch, stale, count, purge, similar.find; at start warm_memory, similar.load
    the writer ........ tells us what the file gained and lost; vectors and memory follow it

What holds, and `check` audits: a vector is there because its row is; what leaves the file leaves
memory and vectors. What a purge covers is dead from `merge` on, wherever it is met, and soon after
nowhere. Memory may hold more than the file while answers wait to be written, or could not be.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from index.acceptance import Accepted, fit, order
from index.calibration import Calibration
from index.decision import DecisionSettings
from index.entry import (
    TTL_MAX_S,
    CacheKey,
    Entry,
    Hint,
    NodeName,
    Purge,
    Purged,
    Scope,
    Seen,
    Timestamp,
    Version,
)
from index.labels import Labels
from index.memory import OVERHEAD_BYTES, Hot, Memory, MemorySettings, MemoryStats
from index.questions import Nearest, Questions
from index.queue import Put
from index.rows import Stored
from index.similar import Similar
from index.store import Store, StoreSettings, StoreStats
from index.sweeps import Purges, Sweep
from index.vectors import Vectors
from index.writer import Follower

KEYS = "2"
"""Names the rules that cache keys are made by. Raised with them: answers kept under keys that
nobody can ask for again are then set aside, with the file they are in."""

_STORE_GAUGES = {
    "entries": "Answers on disk.",
    "file_bytes": "Bytes of the cache file in use.",
    "hits": "Answers read from disk.",
    "misses": "Lookups that found nothing on disk.",
    "written": "Answers written.",
    "evicted": "Answers deleted for room.",
    "expired": "Answers deleted long after they expired.",
    "purged": "Answers purged.",
    "rotten": "Rows deleted because their checksum did not match.",
    "set_aside": "Cache files set aside because they were damaged or of another format.",
    "dropped_busy": "Answers not stored because the writer was behind.",
    "dropped_unwritable": "Answers not stored because the disk was full or failing.",
    "failed": "Groups of answers lost to an unforeseen error; see the log.",
    "unwritable": "1 while nothing can be stored.",
    "queued": "Answers waiting to be written.",
}

REMEMBERED_S = TTL_MAX_S + 86_400.0
"""Purges are kept until all that they could cover has expired, by a day more for wrong clocks."""

Offer = tuple[Entry, Hint | None]
"""What one node gives another."""


@dataclass(frozen=True, slots=True)
class AnswersStats:
    memory: MemoryStats
    store: StoreStats
    semantic_hits: int
    refused: int
    """Candidates that were chosen, and then were not of the scope, partition or text asked for."""
    vectors: int
    vectors_stored: int
    """How many the file held when they began to be rebuilt; of these `vectors_loaded` are ready."""
    vectors_loaded: int
    vectors_unproven: int
    """Those that came from other nodes and were not compared yet."""
    false_hints: int
    """Answers dropped as the vector that came with them was not of their question."""
    semantic_ready: bool
    preloaded: int


class Answers:
    """Owns its directory until `close`."""

    def __init__(
        self,
        open_store: Callable[[Follower], Store],
        memory: Memory,
        open_labels: Callable[[], Labels],
        vectors: Callable[[int], Nearest] = Vectors,
    ) -> None:
        self._memory = memory
        self._closing = self._preload_ended = False
        self._preloaded = 0
        in_step = _InStep(memory)
        self._store = open_store(in_step)
        self._purges = Purges(self._sweep, self._store.aside)
        self._table = self._purges.table  # at hand: every hit asks it
        self.labels = open_labels()  # the directory is ours from here on
        self.similar = Similar(
            self._store,
            memory,
            self._purges,
            self.labels,
            vectors,
            self._admit,
            in_step.follow,
        )

    @classmethod
    def open(
        cls,
        directory: Path,
        store: StoreSettings,
        memory: MemorySettings,
        decision: DecisionSettings,
        normaliser: str = KEYS,
    ) -> Self:
        """Ready for exact hits when it returns. Raises DirectoryInUse, OSError."""
        return cls(
            lambda follower: Store(directory, store, normaliser=normaliser, follower=follower),
            Memory(memory),
            lambda: Labels(directory, decision, Calibration.load()),
        )

    # The event loop.

    def begin(self) -> Seen:
        """To be noted before an answer is fetched: it becomes the entry's `seen`."""
        return self._table.known

    @property
    def seen(self) -> Seen:
        """The purges that were applied here."""
        return self._table.seen

    @property
    def purges(self) -> int:
        """Grows with every purge, be it known without a gap or not."""
        return self._table.changes

    def recall(self, scope: Scope, key: CacheKey, now: Timestamp) -> Hot | None:
        hot = self._memory.get(scope, key, now)
        if hot is None or hot.checked == self._table.changes or self._lives(hot, now):
            return hot
        return None

    def put(self, entry: Entry, vector: NDArray[np.float32] | None) -> bool:
        """Remember an answer that was fetched here, in place of the one with its scope and key.

        In memory at once; on disk some 10 ms later, then found by meaning. False when it was
        purged since the fetch began, and when it is in memory alone as the store is full or cannot
        keep up.
        """
        with self._purges.lock:
            if self._table.dead(entry):
                return False
            return self._put(entry, vector, proven=True)

    def accept(self, entry: Entry, now: Timestamp, hint: Hint | None = None) -> Accepted:
        """Remember an answer that another node fetched, unless there is a newer one.

        Found by meaning as soon as what is put, if the hint is of our encoder; else when there was
        time to embed its question (`unembedded`).
        """
        if not fit(entry, now) or len(entry.body) > self._store.settings.entry_max_bytes:
            return Accepted.UNFIT
        held = self._held(entry.scope, entry.key)
        vector = self.similar.hinted(hint)
        with self._purges.lock:
            if self._table.dead(entry):
                return Accepted.DEAD
            if not self._table.fresh(entry, now):
                return Accepted.EXPIRED
            if (hot := self._memory.held(entry.scope, entry.key)) is not None:
                held = hot.entry  # it may have come since we looked, by another thread
            if held and order(held) >= order(entry) and not self._table.dead(held):
                return Accepted.OLDER
            self._put(entry, vector, proven=False)
            return Accepted.STORED

    def newest(self, scope: Scope, key: CacheKey) -> tuple[Version, NodeName] | None:
        """What an answer has to be newer than to be accepted."""
        held = self._held(scope, key)
        return None if held is None or self._purges.dead(held) else order(held)

    # Purges, from any thread.

    def merge(self, purged: Purged) -> bool:
        """A purge is true from here on: nothing that it covers is served. False if it was known.

        It is swept by the writer, after everything that was put before; `purge` waits for that.
        """
        return self._purges.merge(purged)

    def restore(self, table: Iterable[Purged], seen: Seen = ()) -> None:
        """Merge all purges that are known elsewhere, to somebody who has `seen` so much."""
        self._purges.restore(table, seen)

    def purge_table(self) -> tuple[tuple[Purged, ...], Seen]:
        """All purges that are known here, for who is to know them too: see `restore`."""
        with self._purges.lock:
            return tuple(self._table.purges()), self._table.seen

    def forget(self, now: Timestamp) -> None:
        """Drop purges so old that nothing can be left of what they cover."""
        with self._purges.lock:
            self._table.forget(Timestamp(now - REMEMBERED_S))

    def dead(self, entry: Entry) -> bool:
        return self._purges.dead(entry)

    def keep(self, entry: Entry) -> Hot:
        """Where renderings of an entry just put, fetched or matched are kept with it.

        A place of its own, soon forgotten, when the entry is not in memory (any more).
        """
        return self._memory.resident(entry) or Hot(entry)

    def touch(self, hot: Hot) -> None:
        """The entry was served: what is served stays."""
        self._memory.touch(hot)

    @property
    def all_resident(self) -> bool:
        """Is there nothing on disk that is not in memory? Then `fetch` need not be asked."""
        return self._preload_ended and self._memory.complete

    # Worker threads.

    def fetch(self, scope: Scope, key: CacheKey, now: Timestamp) -> Entry | None:
        """Ask the disk; what is found is in memory from then on."""
        stored = self._store.get(scope, key)
        return None if stored is None else self._admit(stored, now)

    def stale(self, scope: Scope, key: CacheKey) -> Entry | None:
        """An answer for want of a better one: not purged, but it may have expired.

        Its `expires_at` is when it became stale, be it by a soft purge. Expired answers are there
        for `expired_kept_s`, as a rule.
        """
        hot = self._memory.held(scope, key)
        stored = Stored(hot.id, hot.entry) if hot else self._store.get(scope, key)
        if stored is None:
            return None
        with self._purges.lock:
            if self._table.dead(stored.entry):
                return None
            return replace(stored.entry, expires_at=self._table.expires_at(stored.entry))

    def purge(self, purged: Purged) -> int:
        """Merge a purge, unless that was done, and wait until it is swept: when this returns, what
        it covers has left disk, memory and vectors, and the disk has confirmed it (fsync).

        Returns how many entries were removed; of a soft purge, how many are stale by it.
        """
        self._purges.merge(purged)
        return self._purges.count(purged).result()

    def held(self, scope: Scope, key: CacheKey, now: Timestamp) -> Offer | None:
        """What is here under that key, for another node: fresh, and with its vector's hint."""
        hot = self._memory.held(scope, key)
        stored = Stored(hot.id, hot.entry) if hot else self._store.get(scope, key)
        return self._offered(stored, now) if stored else None

    def hottest(self, count_max: int, now: Timestamp) -> Iterator[Offer]:
        """What another node should have first: what is pinned, and then by value."""
        for stored, _ in self._store.hottest(count_max, now):
            if (offer := self._offered(stored, now)) is not None:
                yield offer

    def everything(self, now: Timestamp) -> Iterator[Offer]:
        """All that is fresh on disk, read as it is asked for."""
        for stored in self._store.all():
            if (offer := self._offered(stored, now)) is not None:
                yield offer

    def outlines(self) -> Iterator[Entry]:
        """What is on disk, without answers and times: expired and dead ones may be among them."""
        yield from (stored.entry for stored in self._store.outlines())

    def count(self, purge: Purge) -> int:
        """How many entries `purge` would remove, those that are being written included."""
        self._store.flush()
        return self._store.count(purge)

    def warm_memory(self, now: Timestamp) -> int:
        """Fill the memory with what is worth most, until it is full; how many it took.

        Then have the file examined for damage, aside: 1.5 s a GB. A damaged one is set aside.
        """
        count_max = self._memory.settings.max_bytes // OVERHEAD_BYTES
        for stored, again in self._store.hottest(count_max, now):
            with self._purges.lock:
                if self._closing:
                    break
                if not self._table.fresh(stored.entry, now):
                    continue
                hot = self._memory.put(stored.id, stored.entry, proven=again, room_only=True)
            if self._memory.by_id(stored.id) is hot:
                self._preloaded += 1
            elif self._memory.full:
                break
        else:
            self._preload_ended = True
        if not self._closing:
            self._store.examine_aside()
        return self._preloaded

    # Anyone.

    @property
    def stats(self) -> AnswersStats:
        return AnswersStats(
            memory=self._memory.stats,
            store=self._store.stats,
            semantic_hits=self.similar.hits,
            refused=self.similar.refused,
            vectors=len(self.similar),
            vectors_stored=self.similar.stored,
            vectors_loaded=self.similar.loaded,
            vectors_unproven=self.similar.unproven,
            false_hints=self.similar.false_hints.total(),
            semantic_ready=self.similar.ready,
            preloaded=self._preloaded,
        )

    def report(self) -> dict[str, Any]:
        """The same for people, ready for JSON."""
        return asdict(self.stats)

    def gauges(self) -> Iterator[tuple[str, str, Callable[[], float]]]:
        """What a monitor should see of it: name, meaning, how to read it."""
        yield "memory_entries", "Answers ready in memory.", lambda: len(self._memory)
        yield "memory_bytes", "Their bytes.", lambda: self._memory.stats.nbytes
        yield (
            "memory_evictions",
            "Answers evicted from memory.",
            lambda: self._memory.stats.evictions,
        )
        yield "refuted_pairs", "Pairs proven wrong.", lambda: self.labels.refuted
        yield "vectors", "Questions that can be found by meaning.", lambda: self.stats.vectors
        for name, meaning in _STORE_GAUGES.items():
            yield (
                f"store_{name}",
                meaning,
                lambda name=name: float(getattr(self._store.stats, name)),  # type: ignore[misc]
            )

    def flush(self) -> None:
        """Wait until what was put before is committed and can be found by meaning, or dropped."""
        self._store.flush()

    def check(self) -> None:
        """Audit everything against everything; for tests and operators, O(n)."""
        self.similar.check(self._store.check())
        self._memory.check()

    def close(self) -> None:
        """Write what waits, copy the log into the file, give the directory back.

        To be called when no other call is under way, except preload, understand and examine:
        these end early.
        """
        self._closing = True
        self.similar.close()
        self._store.close()
        self.labels.close()

    def __len__(self) -> int:
        """Answers on disk."""
        return self._store.stats.entries

    def __repr__(self) -> str:
        return f"<Answers {self._memory!r} {self._store!r} {len(self.similar)} vectors>"

    def _put(self, entry: Entry, vector: NDArray[np.float32] | None, *, proven: bool) -> bool:
        id_ = self._store.next_id()
        self._memory.put(id_, entry)
        if entry.question is not None:
            self.labels.replaced(entry.question)
        return self._store.put(id_, entry, self.similar.usable(vector), proven=proven)

    def _offered(self, stored: Stored, now: Timestamp) -> Offer | None:
        with self._purges.lock:
            if not self._table.fresh(stored.entry, now):
                return None
        return stored.entry, self.similar.hint(stored)

    def _admit(self, stored: Stored, now: Timestamp) -> Entry | None:
        """Make resident what was asked for, unless it expired or was purged."""
        with self._purges.lock:
            if not self._table.fresh(stored.entry, now):
                return None
            found = self._memory.put(stored.id, stored.entry, proven=True).entry
            return found if found is stored.entry or self._table.fresh(found, now) else None

    def _lives(self, hot: Hot, now: Timestamp) -> bool:
        """Compare what is in memory with the purges merged since that was last done."""
        with self._purges.lock:
            hot.checked = self._table.changes
            hot.expires_at = self._table.expires_at(hot.entry)
            fresh = self._table.fresh(hot.entry, now)
        if not fresh:
            self._memory.remove([hot.id])
        return fresh

    def _held(self, scope: Scope, key: CacheKey) -> Entry | None:
        """What is known under that key, from the file without its answer."""
        if (hot := self._memory.held(scope, key)) is not None:
            return hot.entry
        return None if self.all_resident else self._store.newest(scope, key)

    def _sweep(self, sweep: Sweep) -> None:
        """Do away with what was purged, on the writer's thread."""
        for _ in self._memory.sweep(sweep.purges, sweep.dooms):
            pass
        self._store.sweep(sweep.purges, sweep.dooms)


class _InStep:
    """Follows the file, on the writer's thread."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._questions: Questions | None = None

    def follow(self, questions: Questions) -> None:
        """Keep them in step as well."""
        self._questions = questions

    def stored(self, puts: Sequence[Put]) -> None:
        if self._questions is not None:
            self._questions.stored(puts)

    def removed(self, ids: Sequence[int]) -> None:
        self._memory.remove(ids)
        if self._questions is not None:
            self._questions.remove(ids)

    def emptied(self) -> None:
        if self._questions is not None:
            self._questions.clear()

    def touched(self) -> Sequence[tuple[int, int]]:
        return self._memory.touched()
