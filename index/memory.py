"""The hot tier in front of the store: answers ready to send, bounded by bytes.

Each scope has a shelf of two queues, as in S3-FIFO (Yang et al., "FIFO queues are all you need for
cache eviction", SOSP 2023): *new* answers wait in a short queue and leave it unseen by the others
unless somebody asks for them again; *proven* ones live in a long queue where each hit buys another
round. So a scan of things asked once passes through a tenth of the shelf. The paper's ghost queue,
which recognises what comes back soon after it was evicted, is here the disk: an answer fetched
from the store was asked for again, and goes straight to the proven ones.

Between scopes two rules. A shelf takes room from one that is larger or idle, never from a smaller
one in use: a single busy scope may fill the memory, and the moment others want room it gives, down
to an equal share. And newcomers of one scope that hold a tenth of the memory take no more from
others, but displace one another: a flood of what nobody asks for again stops there. Candidates for
the victim are the growing shelf and the next four in rotation: O(1) however many scopes there are,
and every shelf has its turn.

Tokens do not count here: what leaves is still on disk, and costs a read of some 50 us whatever it
saves. Nor do bytes: to prefer small answers (GreedyDual-Size-Frequency) makes up to 7 points more
hits where nothing ever changes and loses 2 to 4 to floods (bench/eviction.py), for a heap that each
hit would have to move under the lock.

A hit takes no lock and moves nothing: it reads a dict and counts. Everything else takes the lock
for microseconds, so worker threads may put, purge and attach while the event loop answers.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock
from typing import Annotated

from annotated_types import Gt, Interval

from index.entry import CacheKey, Entry, Purge, Scope, Timestamp

OVERHEAD_BYTES = 1_000
"""One resident answer besides its body and texts: objects, keys and four dict slots; measured."""

_FORM_BYTES = 300
_HITS_COUNTED = 3
_NEW_SHARE = 0.1
_CANDIDATES = 4
_SWEEP_BATCH = 256


@dataclass(frozen=True, slots=True)
class MemorySettings:
    max_bytes: Annotated[int, Gt(0)] = 64 << 20
    """Answers kept ready in memory, with their overhead and the renderings made of them."""
    entry_share: Annotated[float, Interval(gt=0, le=1)] = 0.125
    """One answer larger than this share of `max_bytes` stays on disk alone."""
    idle_s: Annotated[float, Gt(0)] = 600.0
    """A scope not asked for so long gives its room to whoever wants it."""


@dataclass(slots=True, eq=False)
class Hot:
    """An entry, and what the edge made of it to send it faster. By itself it is not resident."""

    entry: Entry
    id: int = 0
    """Zero when not resident."""
    forms: dict[str, object] = field(default_factory=dict)
    """Renderings by name. Read freely; add with `attach`, which counts their bytes."""
    nbytes: int = 0
    hits: int = 0
    """Since they were last written down; reset by the store's writer."""
    served: int = 0
    """How often, since it became resident."""
    lives: int = 0
    """Rounds it will survive in the proven queue."""
    checked: int = -1
    """The `changes` of the purges that it was last compared with."""
    expires_at: Timestamp = field(init=False)
    """Of the entry, or earlier: a soft purge made it stale."""
    memory: "Memory | None" = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.expires_at = self.entry.expires_at

    def attach(self, name: str, form: object) -> None:
        """Keep a rendering: bytes, or a tuple in which bytes count. Not kept if far too large."""
        if self.memory is None:
            self.forms[name] = form
        else:
            self.memory.attach(self, name, form, _FORM_BYTES + _bytes_in(form, self.entry))


@dataclass(frozen=True, slots=True)
class MemoryStats:
    entries: int
    nbytes: int
    max_bytes: int
    scopes: int
    hits: int
    misses: int
    evictions: int


class _Shelf:
    """What one scope keeps: oldest first in both queues."""

    __slots__ = ("asked_at", "nbytes", "new", "new_bytes", "proven")

    def __init__(self) -> None:
        self.new: OrderedDict[CacheKey, Hot] = OrderedDict()
        self.proven: OrderedDict[CacheKey, Hot] = OrderedDict()
        self.new_bytes = 0
        self.nbytes = 0
        self.asked_at = Timestamp(0.0)

    def add(self, hot: Hot, *, proven: bool) -> None:
        (self.proven if proven else self.new)[hot.entry.key] = hot
        self.count(hot, hot.nbytes)

    def count(self, hot: Hot, nbytes: int) -> None:
        self.nbytes += nbytes
        if hot.entry.key in self.new:
            self.new_bytes += nbytes

    def remove(self, hot: Hot) -> None:
        self.count(hot, -hot.nbytes)
        if self.new.pop(hot.entry.key, None) is None:
            del self.proven[hot.entry.key]

    def victim(self) -> Hot:
        """Whom to evict; on the way, promote and give further rounds. Amortised O(1)."""
        while True:
            if self.new and (not self.proven or self._newcomers_crowd()):
                hot = next(iter(self.new.values()))
                if not hot.lives:
                    return hot
                hot.lives -= 1
                del self.new[hot.entry.key]
                self.new_bytes -= hot.nbytes
                self.proven[hot.entry.key] = hot
            else:
                hot = next(iter(self.proven.values()))
                if not hot.lives:
                    return hot
                hot.lives -= 1
                self.proven.move_to_end(hot.entry.key)

    def _newcomers_crowd(self) -> bool:
        return len(self.new) > 1 and self.new_bytes > _NEW_SHARE * self.nbytes


class Memory:
    def __init__(self, settings: MemorySettings | None = None) -> None:
        self.settings = settings or MemorySettings()
        self._entry_bytes_max = int(self.settings.max_bytes * self.settings.entry_share)
        self._newcomers_bytes_max = int(self.settings.max_bytes * _NEW_SHARE)
        self._lock = Lock()
        self._slots: dict[tuple[Scope, CacheKey], Hot] = {}
        self._by_id: dict[int, Hot] = {}
        self._shelves: OrderedDict[Scope, _Shelf] = OrderedDict()
        self._touched: deque[Hot] = deque()
        self._nbytes = self._hits = self._misses = self._evictions = self._turned_away = 0

    def get(self, scope: Scope, key: CacheKey, now: Timestamp) -> Hot | None:
        hot = self._slots.get((scope, key))
        if hot is None:
            self._misses += 1
            return None
        if hot.expires_at <= now:
            self._misses += 1
            self.remove([hot.id])
            return None
        if (shelf := self._shelves.get(scope)) is not None:
            shelf.asked_at = now
        return hot

    def touch(self, hot: Hot) -> None:
        """Count that it was served, for whoever decides what stays."""
        self._hits += 1
        if hot.lives < _HITS_COUNTED:
            hot.lives += 1
        if not hot.hits and hot.id:
            self._touched.append(hot)
        hot.hits += 1
        hot.served += 1

    def resident(self, entry: Entry) -> Hot | None:
        """The place of this very entry, if it still has one. Counts nothing."""
        hot = self._slots.get((entry.scope, entry.key))
        return hot if hot is not None and hot.entry is entry else None

    def held(self, scope: Scope, key: CacheKey) -> Hot | None:
        """What is there under that key, fresh or not. Counts nothing."""
        return self._slots.get((scope, key))

    def by_id(self, id_: int) -> Hot | None:
        return self._by_id.get(id_)

    def put(self, id_: int, entry: Entry, *, proven: bool = False, room_only: bool = False) -> Hot:
        """Make `entry` resident unless it is too large, or there is no free room and `room_only`.

        `proven`: it was asked for before, so the queue for newcomers is not for it.
        """
        hot = Hot(entry, id_, nbytes=_size(entry), memory=self)
        with self._lock:
            if (old := self._slots.get((entry.scope, entry.key))) is not None:
                if old.id >= id_:  # fetched from disk while it, or a newer one, became resident
                    return old
                self._remove(old)
            crowded = self._nbytes + hot.nbytes > self.settings.max_bytes
            if hot.nbytes <= self._entry_bytes_max and not (crowded and room_only):
                self._add(hot, proven=proven)
            else:
                self._turned_away += 1
        return hot

    def attach(self, hot: Hot, name: str, form: object, nbytes: int) -> None:
        """Keep a rendering with its entry, unless together they are too large to keep."""
        with self._lock:
            if name in hot.forms or hot.nbytes + nbytes > self._entry_bytes_max:
                return
            hot.forms[name] = form
            hot.nbytes += nbytes
            if self._by_id.get(hot.id) is hot:
                shelf = self._shelves[hot.entry.scope]
                shelf.count(hot, nbytes)
                self._nbytes += nbytes
                self._make_room(shelf, proven=hot.entry.key in shelf.proven)

    def touched(self) -> list[tuple[int, int]]:
        """(id, hits) since the last call."""
        counts = []
        for _ in range(len(self._touched)):
            hot = self._touched.popleft()
            counts.append((hot.id, hot.hits))
            hot.hits = 0
        return counts

    def remove(self, ids: Iterable[int]) -> None:
        for id_ in ids:
            with self._lock:
                if (hot := self._by_id.get(id_)) is not None:
                    self._remove(hot)

    def sweep(self, purges: Sequence[Purge], doomed: Callable[[int, Entry], bool]) -> Iterator[int]:
        """Remove what `purges` may cover and is `doomed`; the lock is held for a batch at a time.

        Yields the ids removed.
        """
        with self._lock:
            ids = iter(self._ids_under(purges))
        while batch := list(islice(ids, _SWEEP_BATCH)):
            removed = []
            with self._lock:
                for hot in [hot for id_ in batch if (hot := self._by_id.get(id_))]:
                    if doomed(hot.id, hot.entry):
                        self._remove(hot)
                        removed.append(hot.id)
            yield from removed

    def _ids_under(self, purges: Sequence[Purge]) -> list[int]:
        if any(purge.scope is None or purge.key is None for purge in purges):
            return list(self._by_id)
        places = [(purge.scope, purge.key) for purge in purges if purge.scope and purge.key]
        return [hot.id for place in places if (hot := self._slots.get(place))]

    @property
    def complete(self) -> bool:
        """Has all that was ever put here, and has not expired or been purged, stayed?"""
        return not (self._evictions or self._turned_away)

    @property
    def full(self) -> bool:
        return self._nbytes + self._entry_bytes_max > self.settings.max_bytes

    @property
    def stats(self) -> MemoryStats:
        return MemoryStats(
            entries=len(self._slots),
            nbytes=self._nbytes,
            max_bytes=self.settings.max_bytes,
            scopes=len(self._shelves),
            hits=self._hits,
            misses=self._misses,
            evictions=self._evictions,
        )

    def check(self) -> None:
        """Audit the bookkeeping; for tests and operators, O(n)."""
        with self._lock:
            resident = {id(hot) for hot in self._slots.values()}
            assert resident == {id(hot) for hot in self._by_id.values()}
            assert resident == {id(hot) for hot in self._queued()}
            for shelf in self._shelves.values():
                assert shelf.nbytes == sum(hot.nbytes for hot in _of(shelf)) > 0
                assert shelf.new_bytes == sum(hot.nbytes for hot in shelf.new.values())
            for (scope, key), hot in self._slots.items():
                assert (scope, key) == (hot.entry.scope, hot.entry.key)
                assert self._by_id[hot.id] is hot
            assert self._nbytes == sum(shelf.nbytes for shelf in self._shelves.values())
            assert self._nbytes <= self.settings.max_bytes

    def __repr__(self) -> str:
        return (
            f"<Memory {len(self._slots)} entries, {len(self._shelves)} scopes, "
            f"{self._nbytes}/{self.settings.max_bytes} bytes>"
        )

    def __len__(self) -> int:
        return len(self._slots)

    def _add(self, hot: Hot, *, proven: bool) -> None:
        shelf = self._shelves.get(hot.entry.scope)
        if shelf is None:
            shelf = self._shelves[hot.entry.scope] = _Shelf()
        # A newcomer's scope is in use: it was asked for when its answer was made.
        shelf.asked_at = max(shelf.asked_at, hot.entry.stored_at)
        self._slots[(hot.entry.scope, hot.entry.key)] = hot
        self._by_id[hot.id] = hot
        shelf.add(hot, proven=proven)
        self._nbytes += hot.nbytes
        self._make_room(shelf, proven=proven)

    def _make_room(self, growing: _Shelf, *, proven: bool) -> None:
        while self._nbytes > self.settings.max_bytes:
            self._remove(self._yielding(growing, proven=proven).victim())
            self._evictions += 1

    def _yielding(self, growing: _Shelf, *, proven: bool) -> _Shelf:
        chosen = growing
        may_take = proven or growing.new_bytes <= self._newcomers_bytes_max
        for _ in range(min(_CANDIDATES, len(self._shelves))):
            scope = next(iter(self._shelves))
            self._shelves.move_to_end(scope)
            shelf = self._shelves[scope]
            if shelf is growing:
                continue
            if growing.asked_at - shelf.asked_at > self.settings.idle_s:
                return shelf
            if may_take and shelf.nbytes > chosen.nbytes:
                chosen = shelf
        return chosen

    def _remove(self, hot: Hot) -> None:
        del self._slots[(hot.entry.scope, hot.entry.key)]
        del self._by_id[hot.id]
        shelf = self._shelves[hot.entry.scope]
        shelf.remove(hot)
        self._nbytes -= hot.nbytes
        if not shelf.nbytes:
            del self._shelves[hot.entry.scope]

    def _queued(self) -> Iterator[Hot]:
        for shelf in self._shelves.values():
            yield from _of(shelf)


def _of(shelf: _Shelf) -> list[Hot]:
    return [*shelf.new.values(), *shelf.proven.values()]


def _bytes_in(form: object, entry: Entry) -> int:
    parts = form if isinstance(form, tuple) else (form,)
    return sum(len(one) for one in parts if isinstance(one, bytes) and one is not entry.body)


def _size(entry: Entry) -> int:
    texts = len(entry.question.text) if entry.question else 0
    return OVERHEAD_BYTES + len(entry.body) + 2 * texts + sum(map(len, entry.labels))
