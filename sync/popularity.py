"""What is asked for often enough to be told to others, and what of it first.

A count-min sketch (Cormode and Muthukrishnan, 2005) estimates how often each key was asked for:
four rows of counters, a key has one in each, the lowest of its four is the estimate, and only
counters that are as low are raised. It errs upwards alone, by what else fell on all four. All are
halved whenever the sketch has counted ten times its width, so it is the recent past that counts.
Keys are digests already: their bytes say where their counters are. To count costs a microsecond.

An answer asked for three times is offered, once. Three is where 95 % of what pushing can save is
saved by an eighth of the messages; those asked for once or twice are left to who asks for them.
What is offered goes out within a budget of bytes, by what it is worth: tokens saved x times asked
x life left, for each byte.
"""

import struct
from collections import OrderedDict
from heapq import heappop, heappush, nsmallest
from typing import Final

import numpy as np

from index.clock import Now
from index.entry import CacheKey, Entry, Hint, Instant, Version
from sync.messages import Item
from sync.settings import SyncSettings

WIDTH: Final = 1 << 18
"""Counters of a row. Four rows of bytes: 1 MiB, good for some 300,000 keys asked for recently."""
ROWS: Final = 4
PUSHED_BYTES_MAX: Final = 256 << 10
"""A larger answer is not pushed: it is in the digest, and whoever is asked for it asks for it."""
WAITING_MAX: Final = 1_024
OFFERED_MAX: Final = 65_536
"""Remembered, so that each is offered once: some 10 MB."""
BURST_S: Final = 4.0
"""What was not spent is saved for so long."""

_COUNT_MAX: Final = 255
_MASK: Final = WIDTH - 1
_PLACES: Final = struct.Struct("<IIII").unpack_from
_HALVED_AFTER: Final = 10 * WIDTH
_OVERHEAD_BYTES: Final = 250
_TOKENS_A_BYTE: Final = 0.25


class Sketch:
    """How often each key was asked for of late, about; never too low."""

    def __init__(self) -> None:
        # One counter at a time through the bytes, all at once through the array: the same memory.
        self._counts = bytearray(ROWS * WIDTH)
        self._array = np.frombuffer(self._counts, dtype=np.uint8)
        self._added = 0

    def add(self, key: CacheKey) -> int:
        """Count one more; how many that makes."""
        counts = self._counts
        places: tuple[int, ...] = _PLACES(key)
        a, b, c, d = places
        a &= _MASK
        b = (b & _MASK) + WIDTH
        c = (c & _MASK) + 2 * WIDTH
        d = (d & _MASK) + 3 * WIDTH
        count = min(counts[a], counts[b], counts[c], counts[d])
        if count == _COUNT_MAX:
            return count
        more = count + 1
        for place in (a, b, c, d):
            if counts[place] == count:
                counts[place] = more
        self._added += 1
        if self._added >= _HALVED_AFTER:
            self._array >>= 1
            self._added //= 2
        return more

    def count(self, key: CacheKey) -> int:
        places: tuple[int, ...] = _PLACES(key)
        return min(self._counts[(place & _MASK) + row * WIDTH] for row, place in enumerate(places))


class Popularity:
    """Not thread-safe; `asked` is for the path of every request."""

    def __init__(self, settings: SyncSettings, now: Now) -> None:
        self.settings = settings
        self.dropped = 0
        """Offers that others were worth more than, for too long."""
        self._sketch = Sketch()
        self._burst = max(BURST_S * settings.bytes_per_s, 2.0 * PUSHED_BYTES_MAX)
        self._budget = self._burst
        self._budget_at = now.mono
        self._waiting: list[tuple[float, int, Item]] = []
        """A heap, dearest first."""
        self._number = 0
        self._offered: OrderedDict[CacheKey, Version] = OrderedDict()

    def asked(self, key: CacheKey) -> int:
        """Somebody asked for this; how often that happened of late."""
        return self._sketch.add(key)

    def wanted(self, entry: Entry, count: int) -> bool:
        """Is an answer that was asked for `count` times to be offered now?"""
        return (
            (count >= self.settings.threshold or entry.pinned)
            and self._offered.get(entry.key) != entry.version
            and bool(entry.reach)
            and len(entry.body) <= PUSHED_BYTES_MAX
        )

    def offer(self, entry: Entry, hint: Hint | None, now: Now) -> None:
        """Have it told to others when its turn comes; once, whatever becomes of it."""
        self._offered[entry.key] = entry.version
        self._offered.move_to_end(entry.key)
        if len(self._offered) > OFFERED_MAX:
            self._offered.popitem(last=False)
        value = worth(entry, max(self._sketch.count(entry.key), 1), now)
        self._number += 1
        heappush(self._waiting, (-value, self._number, (entry, hint)))
        if len(self._waiting) > 2 * WAITING_MAX:
            self.dropped += WAITING_MAX
            self._waiting = nsmallest(WAITING_MAX, self._waiting)

    def take(self, now: Now) -> list[Item]:
        """What is to be told now: those worth most, as far as the budget goes."""
        passed_s = now.mono - self._budget_at
        self._budget = min(self._burst, self._budget + passed_s * self.settings.bytes_per_s)
        self._budget_at = now.mono
        taken = []
        while self._waiting and self._budget > 0:
            item = heappop(self._waiting)[2]
            self._budget -= size(item[0]) + (len(item[1].codes) if item[1] else 0)
            taken.append(item)
        return taken

    def wake_at(self) -> Instant | None:
        """When `take` has something to give; None while nothing waits."""
        if not self._waiting:
            return None
        return Instant(self._budget_at + max(0.0, -self._budget) / self.settings.bytes_per_s)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<Popularity {self.waiting} waiting, {self._budget:.0f} bytes to spend>"


def size(entry: Entry) -> int:
    """Bytes it takes to tell it, about."""
    question = len(entry.question.text) if entry.question else 0
    return len(entry.body) + question + _OVERHEAD_BYTES


def worth(entry: Entry, count: int, now: Now) -> float:
    """Tokens x times asked x seconds left, for each byte."""
    tokens = entry.tokens or _TOKENS_A_BYTE * len(entry.body)
    return tokens * count * max(0.0, entry.expires_at - now.wall) / size(entry)
