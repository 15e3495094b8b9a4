"""Inverted lists with four-bit product codes. The one module that imports FAISS.

A vector belongs to the list whose centre is nearest, and is kept there as 48 bytes: four bits for
every four dimensions. A search scans the few lists that are nearest to what is asked, 32 vectors at
a time with their tables in registers, and returns rows that deserve an exact look.

Product codes are of the vector itself, not of what is left of it beside its centre: on a fast scan,
whose sums are eight bits wide, that finds more (0.99 against 0.98 of the true eight, of 128).
"""

from collections.abc import Callable, Generator
from math import gcd
from typing import Any

import faiss
import numpy as np

from index.arena import Rows
from index.codes import Floats, unit

SLICE_ROWS = 256
"""Vectors between two pauses of a training: 2 to 10 ms of CPU."""

ROUNDS = 6
SAMPLE_A_LIST = 32
"""Of k-means, which ends when it is good enough for lists, long before it converges."""

SAMPLE_PRODUCT = 2048
"""Vectors that the product codes are trained with, for 16 centres each."""

_PRODUCT_ROUNDS = 6


def _on_one_thread() -> None:
    """Keep FAISS from spreading over the cores, which have other work. OpenMP keeps this number for
    each thread apart, so that setting it once, at import, would bind the main thread alone.
    Takes 0.2 us.
    """
    faiss.omp_set_num_threads(1)


class Lists:
    """Rows by nearness. Not safe to change from two threads at once, nor while it is searched."""

    def __init__(self, centres: Floats, sample: Floats) -> None:
        """`centres` (lists, d) and `sample` (n, d) of unit length, n at least 16."""
        _on_one_thread()
        count, dimensions = centres.shape
        self.count = count
        self._centres = faiss.IndexFlatIP(dimensions)  # FAISS does not keep it alive
        self._centres.add(centres)
        self._index: Any = faiss.IndexIVFPQFastScan(
            self._centres,
            dimensions,
            count,
            dimensions // gcd(dimensions, 4),
            4,
            faiss.METRIC_INNER_PRODUCT,
        )
        self._index.by_residual = False
        self._index.pq.cp.niter = _PRODUCT_ROUNDS
        self._index.pq.cp.min_points_per_centroid = 1
        self._index.train(sample)

    def __len__(self) -> int:
        """Vectors added."""
        added: int = self._index.ntotal
        return added

    def add(self, rows: Rows, units: Floats) -> None:
        """Some 20 us a vector."""
        _on_one_thread()
        self._index.add_with_ids(units, rows)

    def rows(self) -> Rows:
        """All rows added, as often as they were."""
        lists = self._index.invlists
        found = [
            faiss.rev_swig_ptr(lists.get_ids(at), lists.list_size(at)).copy()
            for at in range(self.count)
            if lists.list_size(at)
        ]
        return np.concatenate([np.empty(0, np.int64), *found])

    def nearest(self, asked: Floats, count: int, probes: int) -> Rows:
        """Up to `count` rows near `asked` (d,), out of the `probes` nearest lists."""
        _on_one_thread()
        self._index.nprobe = probes
        rows: Rows = self._index.search(asked[None], count)[1][0]
        return rows[rows >= 0]


def centres(
    rows: Rows, units: Callable[[Rows], Floats], count: int, slice_rows: int
) -> Generator[None, None, Floats]:
    """Spherical k-means over the unit vectors of `rows`, with a pause after each slice."""
    found = units(rows[:: max(1, len(rows) // count)][:count])
    for _ in range(ROUNDS):
        _on_one_thread()
        index = faiss.IndexFlatIP(found.shape[1])
        index.add(found)
        sums = np.zeros_like(found)
        for start in range(0, len(rows), slice_rows):
            part = units(rows[start : start + slice_rows])
            _on_one_thread()
            np.add.at(sums, index.search(part, 1)[1][:, 0], part)
            yield
        empty = ~sums.any(axis=1)
        sums[empty] = found[empty]
        found = unit(sums)
    return found
