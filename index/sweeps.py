"""After a purge: what it covers is found and deleted, and counted for who asked.

A purge is true at once, as whatever it covers is dead wherever it is met; a sweep gives back room
and takes the bytes off the disk. Those that come together are swept together: a file is read once
for a thousand of them.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future

from index.entry import Entry, NodeName, Purge, Purged, Version
from index.generations import Generations

REMEMBERED_MAX = 256
"""Purges whose counts are kept for who asks."""
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


class Waiting:
    """Purges that were merged and are still to be swept. Not thread-safe."""

    def __init__(self) -> None:
        self._purges: list[Purged] = []
        self._swept: OrderedDict[tuple[NodeName, Version], Future[int]] = OrderedDict()

    def add(self, purged: Purged) -> bool:
        """True when it is the first to wait."""
        self._purges.append(purged)
        self._swept[purged.by, purged.version] = Future()
        while len(self._swept) > REMEMBERED_MAX + len(self._purges):
            self._swept.popitem(last=False)
        return len(self._purges) == 1

    def take(self) -> list[Purged]:
        purges, self._purges = self._purges, []
        return purges

    def swept(self, purged: Purged) -> "Future[int]":
        """How many it removed, once it is known; 0 when that is long ago."""
        return self._swept.get((purged.by, purged.version)) or _nothing()

    def done(self, told: Iterable[Purged], counts: Counter[Purged]) -> None:
        for purged in told:
            if (future := self._swept.get((purged.by, purged.version))) is not None:
                future.set_result(counts[purged])


def _nothing() -> "Future[int]":
    future: Future[int] = Future()
    future.set_result(0)
    return future
