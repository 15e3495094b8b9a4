"""This node's purges: true at once, swept soon after.

Whatever a purge covers is dead wherever it is met, from the moment it is merged. A sweep then finds
it, deletes it, and counts it for who asked. Those that come together are swept together: a file is
read once for a thousand of them.
"""

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from threading import Lock

from index.entry import Entry, NodeName, Purge, Purged, Seen, Version
from index.generations import Generations
from index.queue import StoreClosed

log = logging.getLogger("promptedge.purges")

COUNTS_MAX = 256
"""Swept purges whose counts are kept for who asks."""
_SCANS_MAX = 4


class Sweep:
    """Some purges, and how many entries each did away with, or made stale."""

    def __init__(self, told: Sequence[Purged]) -> None:
        self._table = Generations(purges_max=len(told))
        for purged in told:
            self._table.merge(purged)
        self._by: dict[int, Purged] = {}

    @property
    def purges(self) -> Sequence[Purge]:
        """Where to look: everywhere, rather than in many places one after another."""
        purges = list(dict.fromkeys(purged.purge for purged in self._table.purges()))
        scans = sum(purge.key is None for purge in purges)
        return purges if scans <= _SCANS_MAX else [Purge()]

    def dooms(self, id_: int, entry: Entry) -> bool:
        reached = min(self._table.against(entry), key=lambda purged: purged.soft, default=None)
        if reached is None:
            return False
        self._by[id_] = reached
        return not reached.soft

    def counts(self) -> Counter[Purged]:
        return Counter(self._by.values())


class Purges:
    """To be called from any thread."""

    def __init__(
        self,
        sweep: Callable[[Sweep], None],
        aside: Callable[[Callable[[], None]], object],
    ) -> None:
        """`aside` has something done where the file is written, after what was put before; there
        `sweep` is called. `aside` raises StoreClosed when nothing is written any more."""
        self.lock = Lock()
        """Held over "is it dead? no: keep it" and over "a purge is merged", each microseconds."""
        self.table = Generations()
        """To be asked with the lock held, except for its `seen` and `changes`."""
        self._do_sweep = sweep
        self._aside = aside
        self._unswept: list[Purged] = []
        self._counts: OrderedDict[tuple[NodeName, Version], Future[int]] = OrderedDict()

    def merge(self, purged: Purged) -> bool:
        """Apply a purge; False if it was known."""
        with self.lock:
            return self._merge(purged)

    def restore(self, purges: Iterable[Purged], seen: Seen) -> None:
        """Apply all that is known to somebody who has `seen` so much."""
        with self.lock:
            for purged in purges:
                self._merge(purged)
            self.table.adopt(seen)

    def count(self, purged: Purged) -> "Future[int]":
        """How many entries a purge that was merged removed, or made stale, once it is swept; 0
        when that is long ago."""
        with self.lock:
            return self._counts.get((purged.by, purged.version)) or _nothing()

    def dead(self, entry: Entry) -> bool:
        with self.lock:
            return self.table.dead(entry)

    def _merge(self, purged: Purged) -> bool:
        if not self.table.merge(purged):
            return False
        self._unswept.append(purged)
        self._counts[purged.by, purged.version] = Future()
        while len(self._counts) > COUNTS_MAX + len(self._unswept):
            self._counts.popitem(last=False)
        if len(self._unswept) == 1:
            try:
                self._aside(self._sweep)
            except StoreClosed:
                self._swept(self._take(), Counter())
        return True

    def _sweep(self) -> None:
        with self.lock:
            purges = self._take()
        sweep = Sweep(purges)
        try:
            self._do_sweep(sweep)
        except Exception:  # nothing foreseen: what is dead stays dead, and its bytes on the disk
            log.exception("event=bug part=sweep purges=%d", len(purges))
        finally:
            with self.lock:
                self._swept(purges, sweep.counts())

    def _take(self) -> list[Purged]:
        purges, self._unswept = self._unswept, []
        return purges

    def _swept(self, purges: Iterable[Purged], counts: Counter[Purged]) -> None:
        for purged in purges:
            if (count := self._counts.get((purged.by, purged.version))) is not None:
                count.set_result(counts[purged])


def _nothing() -> "Future[int]":
    future: Future[int] = Future()
    future.set_result(0)
    return future
