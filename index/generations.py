"""Purges as generations: what began before a purge that covers it is dead on arrival.

A purge deletes what is stored, but answers are also on their way: a fetch from an upstream that
ends a minute later, a row that a worker has just read. Unguarded,

    1. worker reads the row of an entry from disk
    2. purge deletes the row, empties the memory, returns
    3. worker puts the entry it holds into memory: the purged answer is back

So whoever sets out notes the generation first, and asks `dead` when it arrives. A purge takes a
number when it begins; a fetch compares with all purges begun since it set out, a read of the disk
with all that had not finished when it set out, as their rows may not have been deleted yet.

Not thread-safe: the caller holds one lock over `dead` and the step that follows from it.
"""

from collections import deque
from dataclasses import dataclass
from typing import NewType

from index.entry import Entry, Purge

Generation = NewType("Generation", int)

REMEMBERED_MAX = 1024
"""Purges remembered; what began before the oldest of them is taken for dead."""


@dataclass(slots=True)
class _Begun:
    number: int
    purge: Purge
    last_id: int
    finished: bool = False


class Generations:
    def __init__(self) -> None:
        self._begun: deque[_Begun] = deque()
        self._forgotten = 0
        self.latest = Generation(0)
        """Number of the latest purge begun: what a fetch notes."""
        self.settled = Generation(0)
        """All purges up to this number have finished: what a read of the disk notes."""

    def begin(self, purge: Purge, last_id: int) -> Generation:
        """A purge of everything it covers up to `last_id`, the highest id given out so far."""
        self.latest = Generation(self.latest + 1)
        self._begun.append(_Begun(self.latest, purge, last_id))
        if len(self._begun) > REMEMBERED_MAX:
            self._forgotten = self._begun.popleft().number
        return self.latest

    def finish(self, generation: Generation) -> None:
        for begun in self._begun:
            if begun.number == generation:
                begun.finished = True
        unfinished = (begun.number for begun in self._begun if not begun.finished)
        self.settled = Generation(next(unfinished, self.latest + 1) - 1)

    def dead(self, entry: Entry, began: Generation, id_: int | None = None) -> bool:
        """True when a purge after `began` covers `entry`; with an id, one that reaches that far."""
        if began == self.latest:
            return False
        if began < self._forgotten:
            return True
        return any(
            begun.purge.covers(entry)
            for begun in reversed(self._begun)
            if begun.number > began and (id_ is None or id_ <= begun.last_id)
        )

    def __repr__(self) -> str:
        return f"<Generations {self.latest}, settled {self.settled}>"
