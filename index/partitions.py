"""The vectors of one partition: a few, compared one by one, or many, behind inverted lists.

Most partitions hold an entry or two (each system prompt and each history makes its own), and are
plain bytes. One that outgrows them becomes `Many`: codes in an arena, and lists that point into it.
The lists only propose; who is nearest, and how near, the codes decide, so a stale proposal costs
time and never an answer. That is what makes the rest simple:

- To remove is to mark the row. Lists still point there until they are made anew; the row itself may
  be in use again, and is then found from two lists, once.
- At a start rows come by the million and nobody waits for them: they are put into the arena alone,
  and listed at the end, once, many at a time, which takes a third of the work.
- To grow is to make other lists, more of them, while the old ones are searched and added to. This
  is work of seconds at a million vectors, so it is done in slices by whoever adds or removes, some
  eight rows of it a row, outside the lock. Rows added meanwhile are noted, and added to the new
  lists too before they take over. A growth that nobody feeds rests, and nothing is wrong meanwhile.
- To shrink is to add the topmost rows again, further down, and to let go of what is above.

Whoever calls holds off other writers; `lock` is held here, for well under a millisecond at a time,
around each change that a search might see.
"""

from array import array
from collections.abc import Callable, Iterator
from math import isqrt
from threading import Lock

import numpy as np

from index.arena import GONE, Arena, Ids, Rows
from index.codes import Codes, Floats, units
from index.lists import SAMPLE_A_LIST, SAMPLE_PRODUCT, SLICE_ROWS, Lists, centres

LOCKED_ROWS = 16
"""Rows added to lists in one hold of the lock: 0.2 to 0.5 ms."""

CANDIDATES = 160
"""Rows that are looked at exactly. Of 128, fast scans lose a thousandth more of the true eight."""

WORK = 8
"""Rows of a growth done a row added or removed: it ends before the partition grew by a third."""

GROWTH = 4
"""Lists are made anew when there are so many times the vectors they were made for."""

SETTLED_ROWS = 1024
"""Rows listed at a time after a load: some 15 ms. FAISS takes 12 us each, of 256 it takes 20."""

STALE = 1.5
"""Or when they point at so many times the vectors that there are."""

SPARSE = 2
"""Rows are moved down when there are so many times the vectors that there are."""

Found = tuple[Ids, Codes]


def _probes(lists: int) -> int:
    """Of so many lists, how many a search scans: 3 % of the vectors of a large partition.

    At a million vectors in 552 lists, 24 find 0.979 of the true eight, 32 0.982 and 48 0.984.
    """
    return min(lists, 28 + lists // 128)


class Few:
    """Codes in a byte string, row by row."""

    __slots__ = ("_codes", "_dimensions", "_ids", "number")

    def __init__(self, number: int, dimensions: int) -> None:
        self.number = number
        self._dimensions = dimensions
        self._ids = array("q")
        self._codes = b""  # replaced as a whole: who searches still holds the former

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, ids: Ids, codes: Codes) -> None:
        self._ids.frombytes(ids.tobytes())
        self._codes += codes.tobytes()

    def remove(self, gone: set[int]) -> None:
        ids, codes = self.everything()
        keep = np.array([id not in gone for id in self._ids])
        self._ids, self._codes = array("q"), b""
        self.add(ids[keep], codes[keep])

    def everything(self) -> Found:
        ids = np.array(self._ids, np.int64)
        return ids, np.frombuffer(self._codes, np.int8).reshape(len(ids), self._dimensions)

    def candidates(self, asked: Codes, k: int) -> Found:
        return self.everything()

    def check(self) -> tuple[list[int], list[int]]:
        """Ids, and the rows that go by in their places."""
        assert len(self._codes) == len(self._ids) * self._dimensions
        return list(self._ids), [0] * len(self._ids)


class Many:
    """Codes in an arena, found through lists.

    `placed` is told the rows that ids get; `paused` is called after each slice of a growth.
    """

    def __init__(
        self,
        number: int,
        dimensions: int,
        few_max: int,
        lock: Lock,
        placed: Callable[[int, Ids, Rows], None],
        paused: Callable[[], object],
    ) -> None:
        self.number = number
        self._few_max = few_max
        self._lock = lock
        self._placed = placed
        self._paused = paused
        self._arena = Arena(dimensions)
        self._lists: Lists | None = None
        self._made_for = 0  # vectors
        self._growth: Iterator[None] | None = None
        self._late = array("q")  # rows added since the growth began
        self._owed = 0  # rows of work
        self.unlisted = False
        """Whether rows were loaded that are in no list."""

    def __len__(self) -> int:
        return len(self._arena)

    @property
    def rows(self) -> int:
        """In use, or waiting to be."""
        return self._arena.end

    @property
    def listed(self) -> int:
        """Vectors that lists point to, some of them gone, some of them twice."""
        return 0 if self._lists is None else len(self._lists)

    def add(self, ids: Ids, codes: Codes) -> None:
        for start in range(0, len(ids), LOCKED_ROWS):
            part = slice(start, start + LOCKED_ROWS)
            self._placed(self.number, ids[part], self._put(ids[part], codes[part]))
            self._grow(len(ids[part]))

    def load(self, ids: Ids, codes: Codes) -> None:
        """As `add`, but they may be found only once `settle` was called until it was False."""
        if self._lists is None or self._growth is not None:
            return self.add(ids, codes)  # a search may look at all rows only while they are few
        rows = self._arena.write(codes)
        with self._lock:
            self._arena.name(rows, ids)
        self._placed(self.number, ids, rows)
        self.unlisted = True
        return None

    def settle(self) -> bool:
        """A slice of listing what was loaded; False when there is nothing left to do."""
        if self.unlisted:
            self.unlisted = False
            # As if it had grown since: then it is searched with as many lists as it has on average.
            self._growth = self._rebuilt(len(self._arena) // 2, SETTLED_ROWS)
        if self._growth is not None and next(self._growth, self) is self:
            self._growth = self._due()
        return self._growth is not None

    def _put(self, ids: Ids, codes: Codes) -> Rows:
        rows, vectors = self._arena.write(codes), units(codes)
        with self._lock:
            self._arena.name(rows, ids)
            if self._lists is not None:
                self._lists.add(rows, vectors)
        if self._growth is not None:
            self._late.frombytes(rows.tobytes())
        return rows

    def remove(self, rows: Rows) -> None:
        for start in range(0, len(rows), SLICE_ROWS):
            with self._lock:
                self._arena.drop(rows[start : start + SLICE_ROWS])
        # Only now: a row that is to go, and has no place any more, must not be moved.
        self._grow(len(rows))

    def candidates(self, asked: Codes, k: int) -> Found:
        """Those who may be among the `k` nearest, at least so many if there are. Under the lock."""
        ids, rows = self._near(units(asked[None])[0], min(k, len(self._arena)))
        return ids, self._arena.codes(rows)

    def everything(self) -> Found:
        rows = self._arena.used(0, self._arena.end)
        return self._arena.ids(rows), self._arena.codes(rows)

    def _near(self, asked: Floats, k: int) -> tuple[Ids, Rows]:
        lists = self._lists
        if lists is None:
            rows = self._arena.used(0, self._arena.end)
            return self._arena.ids(rows), rows
        count, probes = max(CANDIDATES, 4 * k), _probes(lists.count)
        while True:
            found = lists.nearest(asked, count, probes)
            rows = np.sort(found)
            ids = self._arena.ids(rows)
            kept = ids != GONE
            kept[1:] &= rows[1:] != rows[:-1]
            ids, rows = ids[kept], rows[kept]
            # Where much was removed, the nearest rows are mostly marks: look further.
            if len(found) == count:
                if 2 * len(rows) >= count:
                    return ids, rows
                count *= 4
            elif len(rows) >= k or probes == lists.count:
                return ids, rows
            else:
                probes = min(4 * probes, lists.count)

    # Growing and shrinking.

    def _grow(self, rows: int) -> None:
        if self._growth is None:
            self._growth = self._due()
        self._owed += WORK * rows
        while self._growth is not None and self._owed >= SLICE_ROWS:
            self._owed -= SLICE_ROWS
            if next(self._growth, self) is self:
                self._growth = self._due()
            self._paused()
        if self._growth is None:
            self._owed = 0

    def _due(self) -> Iterator[None] | None:
        count = len(self._arena)
        if self.unlisted:
            return None
        if self._arena.end > SPARSE * max(count, self._few_max):
            return self._shrunk()
        if count > max(self._few_max, GROWTH * self._made_for):
            return self._rebuilt(count, SLICE_ROWS)
        if self.listed > STALE * max(count, self._few_max):
            return self._rebuilt(count, SLICE_ROWS)
        return None

    def _rebuilt(self, count: int, slice_rows: int) -> Iterator[None]:
        """Lists as for `count` vectors."""
        arena, end = self._arena, self._arena.end
        self._late = array("q")
        rows = arena.used(0, end)
        if len(rows) <= self._few_max // 4:  # they are about to be few
            return
        lists = max(1, min(8 * count // self._few_max, isqrt(count)))
        sample = rows[:: max(1, len(rows) // (lists * SAMPLE_A_LIST))]
        found = yield from centres(sample, self._units, lists, slice_rows)
        product = rows[:: max(1, len(rows) // SAMPLE_PRODUCT)]
        made = Lists(found, self._units(product))
        yield
        for start in range(0, end, slice_rows):
            # In use now: of those in use before, some have gone, or another vector took the row.
            rows = arena.used(start, start + slice_rows)
            made.add(rows, self._units(rows))
            yield
        while self._late:
            rows = np.unique(self._late[-slice_rows:])
            del self._late[-slice_rows:]
            made.add(rows, self._units(rows))
            if self._late:
                yield
        with self._lock:
            former, self._lists = self._lists, made
        del former  # not under the lock: it may take milliseconds
        self._made_for = count

    def _shrunk(self) -> Iterator[None]:
        arena = self._arena
        top = arena.end
        while top > len(arena):
            rows = arena.used(top - SLICE_ROWS, top)
            for start in range(0, len(rows), LOCKED_ROWS):
                self._move(rows[start : start + LOCKED_ROWS])
            top -= SLICE_ROWS
            yield
        used = arena.used(0, arena.end)
        with self._lock:
            arena.trim(int(used[-1]) + 1 if len(used) else 0)

    def _move(self, rows: Rows) -> None:
        ids, codes = self._arena.ids(rows), self._arena.codes(rows)
        moved, vectors = self._arena.write(codes), units(codes)
        with self._lock:
            self._arena.name(moved, ids)
            self._arena.drop(rows)
            if self._lists is not None:
                self._lists.add(moved, vectors)
        self._placed(self.number, ids, moved)

    def _units(self, rows: Rows) -> Floats:
        return units(self._arena.codes(rows))

    def check(self) -> tuple[list[int], list[int]]:
        """Ids, and the rows that they are in."""
        self._arena.check()
        rows = self._arena.used(0, self._arena.end)
        if self._lists is not None and not self.unlisted:
            assert np.isin(rows, self._lists.rows()).all(), "a vector is in no list"
        return self._arena.ids(rows).tolist(), rows.tolist()
