"""Codes and ids of one large partition, by row. A row stays where it is.

Rows are kept in chunks, each four times the one before, so that growing copies nothing, and a
million rows take six. A chunk takes memory as it is filled: until they are written to, its pages
exist in the address space alone. A row that was dropped is used again before a new one, the lowest
first, so that the top empties.
"""

from bisect import bisect_right
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from index.codes import Codes

FIRST_ROWS = 1024
_GROWTH = 4
GONE = -1

Rows = NDArray[np.int64]
Ids = NDArray[np.int64]


class Arena:
    """Not safe to change from two threads at once, nor to read while it is, but for `write`."""

    def __init__(self, dimensions: int) -> None:
        self.end = 0
        """All rows in use are below."""
        self._dimensions = dimensions
        self._codes: list[Codes] = []
        self._ids: list[Ids] = []
        self._starts = [0]  # of each chunk, and of the next one
        self._free: list[int] = []  # a heap; rows that `trim` let go of may be in it still
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def write(self, codes: Codes) -> Rows:
        """Rows that now hold `codes` (n, d), ascending, in use once `name` was called.

        They may be written while others are read: memory that is touched for the first time can
        keep the kernel busy for milliseconds.
        """
        rows: Rows = np.empty(len(codes), np.int64)
        done, end = 0, self.end
        while done < len(codes):
            row, count = self._vacant(end, len(codes) - done)
            part = slice(done, done + count)
            chunk, within = self._chunk(row)
            self._codes[chunk][within : within + count] = codes[part]
            rows[part] = np.arange(row, row + count)
            end = max(end, row + count)
            done += count
        return rows

    def name(self, rows: Rows, ids: Ids) -> None:
        """Use `rows`, just written, for `ids` (n,), none negative."""
        for at, chunk, within in self._spread(rows):
            self._ids[chunk][within] = ids[at]
        self.end = max(self.end, int(rows[-1]) + 1)
        self._count += len(rows)

    def drop(self, rows: Rows) -> None:
        """`rows` are in use, none is named twice."""
        for row in rows.tolist():
            chunk, within = self._chunk(row)
            self._ids[chunk][within] = GONE
            heappush(self._free, row)
        self._count -= len(rows)

    def ids(self, rows: Rows) -> Ids:
        """The ids (n,) in `rows`, which ascend; GONE where none is."""
        found: Ids = np.full(len(rows), GONE)
        for at, chunk, within in self._spread(rows[: np.searchsorted(rows, self.end)]):
            self._ids[chunk].take(within, out=found[at], mode="clip")
        return found

    def codes(self, rows: Rows) -> Codes:
        """The codes (n, d) in `rows`, which ascend and are in use."""
        found: Codes = np.empty((len(rows), self._dimensions), np.int8)
        for at, chunk, within in self._spread(rows):
            self._codes[chunk].take(within, axis=0, out=found[at], mode="clip")
        return found

    def used(self, start: int, stop: int) -> Rows:
        """The rows in use from `start` to `stop`."""
        rows: Rows = np.arange(max(start, 0), min(stop, self.end), dtype=np.int64)
        used: Rows = rows[self.ids(rows) != GONE]
        return used

    def trim(self, end: int) -> None:
        """Let go of the rows from `end` on, none of which is in use."""
        self.end = end
        while len(self._codes) and self._starts[-2] >= end:
            del self._codes[-1], self._ids[-1]
            del self._starts[-1]

    def check(self) -> None:
        """Assert that rows are counted, and that each free one will be used again."""
        used = self.used(0, self.end)
        assert self._count == len(used)
        assert len(set(self.ids(used).tolist())) == len(used), "an id is kept twice"
        assert set(range(self.end)) - set(used.tolist()) <= set(self._free), "a row is lost"

    def _vacant(self, end: int, wanted: int) -> tuple[int, int]:
        """A row, and how many from there on may be used: a free one, or some at the end."""
        while self._free:
            row = heappop(self._free)
            if row < self.end:
                return row, 1
        if end == self._starts[-1]:
            rows = FIRST_ROWS * _GROWTH ** len(self._codes)
            self._codes.append(np.empty((rows, self._dimensions), np.int8))
            self._ids.append(np.empty(rows, np.int64))
            self._starts.append(end + rows)
        return end, min(wanted, self._starts[-1] - end)

    def _chunk(self, row: int) -> tuple[int, int]:
        chunk = bisect_right(self._starts, row) - 1
        return chunk, row - self._starts[chunk]

    def _spread(self, rows: Rows) -> Iterator[tuple[slice, int, Rows]]:
        """Which of `rows` are in one chunk, the chunk, and where in it they are."""
        bounds = np.searchsorted(rows, self._starts).tolist()
        for chunk, (start, stop) in enumerate(pairwise(bounds)):
            if start < stop:
                yield slice(start, stop), chunk, rows[start:stop] - self._starts[chunk]
