"""Nearest vectors within a partition. The one module that imports FAISS.

Vectors are kept as one signed byte a dimension, `code = round(127 x / clip)`, with the clip at
seven times the spread of a unit vector's components (7 / sqrt(d)). The best k are those with the
largest product of asked and kept codes, and their similarity is the cosine of the codes. All are
whole numbers, so it is a property of the two vectors alone: the same in any partition, order or
company, and 1.0 for a vector and itself. Measured on 2,296 real prompts of MiniLM (largest
component 0.25, clip 0.36) it is within 0.003 of the exact cosine between 0.8 and 0.9, and within
0.001 above 0.95 (standard deviation 0.0007 and 0.0003).

Why bytes (bench/vectors.py: faiss-cpu 1.15.1, 384 dimensions, k = 8, CPU of a search on one core;
the last column is the share of the true 8 found, among clusters with many near ties):

    kept as    bytes    10,000 vectors    100,000 vectors    recall
    fp32        1536        0.55 ms            11.3 ms        1
    fp16         768        0.34 ms             8.1 ms        0.99
    bf16         768        0.31 ms             4.1 ms        0.99
    bytes        384        0.23 ms             1.9 ms        0.96

Most partitions hold an entry or two (each system prompt and each history makes its own), and an
index of FAISS weighs 1.5 KB empty. So a partition begins as plain bytes, searched with numpy, and
becomes an index when it outgrows FEW_MAX, where FAISS has become the faster of the two.
"""

from array import array
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

FEW_MAX = 16
"""Vectors up to which a partition stays plain bytes."""

CHUNK = 4096
"""Vectors turned into codes at a time, so that a bulk add needs no second copy of its input."""

CODE_MAX = 127
SPREADS = 7.0
"""The clip, in spreads: beyond the largest component seen, and no wider, for precision's sake."""

_UNIT_TOLERANCE = 1e-3

Codes = NDArray[np.float32]
"""(n, d), whole numbers within +-CODE_MAX: what FAISS and BLAS take as input."""


def _on_one_thread() -> None:
    """Keep FAISS from spreading over the cores, which have other work: a search of 10,000 then
    costs four times the CPU. OpenMP keeps this number for each thread apart, so that setting it
    once, at import, would bind the main thread alone. Takes 0.2 us.
    """
    faiss.omp_set_num_threads(1)


class _Few:
    """Codes in a byte string, row by row."""

    __slots__ = ("codes", "ids")

    def __init__(self) -> None:
        self.ids = array("q")
        self.codes = bytearray()

    def add(self, ids: Iterable[int], codes: Codes) -> None:
        self.ids.extend(ids)
        self.codes += codes.astype(np.int8).tobytes()

    def rows(self) -> Codes:
        return np.frombuffer(self.codes, np.int8).reshape(len(self.ids), -1).astype(np.float32)

    def remove(self, gone: set[int]) -> None:
        keep = [row for row, id in enumerate(self.ids) if id not in gone]
        rows = self.rows()[keep]
        self.ids = array("q", [self.ids[row] for row in keep])
        self.codes = bytearray(rows.astype(np.int8).tobytes())

    def nearest(self, asked: Codes, k: int) -> tuple[list[int], Codes]:
        rows = self.rows()
        best = np.argsort(rows @ -asked[0], kind="stable")[:k]
        return [self.ids[row] for row in best], rows[best]


class _Many:
    """Codes in a FAISS index, ids beside it in the same order."""

    __slots__ = ("ids", "index")

    def __init__(self, few: _Few, dimensions: int) -> None:
        _on_one_thread()
        self.ids = array("q", few.ids)
        self.index: Any = faiss.IndexScalarQuantizer(
            dimensions, faiss.ScalarQuantizer.QT_8bit_direct_signed, faiss.METRIC_INNER_PRODUCT
        )
        if few.ids:
            self.index.add(few.rows())

    def add(self, ids: Iterable[int], codes: Codes) -> None:
        _on_one_thread()
        self.ids.extend(ids)
        self.index.add(codes)

    def remove(self, gone: set[int]) -> None:
        """One pass over the partition (3 ms of CPU at 100,000 vectors), however many go."""
        _on_one_thread()
        ids = np.array(self.ids)
        leaves = np.isin(ids, np.fromiter(gone, np.int64, len(gone)))
        self.index.remove_ids(np.flatnonzero(leaves))
        self.ids = array("q", ids[~leaves].tobytes())

    def nearest(self, asked: Codes, k: int) -> tuple[list[int], Codes]:
        _on_one_thread()
        _, best = self.index.search(asked, min(k, len(self.ids)))
        return [self.ids[row] for row in best[0].tolist()], self.index.reconstruct_batch(best[0])


class Vectors:
    """Unit vectors by id, each in one partition. Safe to call from several threads."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self._scale = np.float32(CODE_MAX * dimensions**0.5 / SPREADS)
        self._partitions: dict[bytes, _Few | _Many] = {}
        self._partition_of: dict[int, bytes] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._partition_of)

    def __repr__(self) -> str:
        return (
            f"<Vectors {len(self)} in {len(self._partitions)} partitions, "
            f"{self.nbytes / 2**20:.1f} MiB>"
        )

    @property
    def nbytes(self) -> int:
        """Bytes of codes and ids; dictionaries and spare room come on top, about as much again."""
        return len(self) * (self.dimensions + 8)

    def add(self, partition: bytes, ids: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Keep `vectors` (n, d), unit length. An id already kept is replaced, wherever it was.

        Raises ValueError for vectors of another shape or length than one.
        """
        if vectors.shape != (len(ids), self.dimensions):
            raise ValueError(f"{len(ids)} ids of vectors shaped {vectors.shape}: {self!r}")
        for start in range(0, len(ids), CHUNK):
            chunk = slice(start, start + CHUNK)
            self._add(partition, list(map(int, ids[chunk])), self._codes(vectors[chunk]))

    def _add(self, partition: bytes, ids: list[int], codes: Codes) -> None:
        latest = {id: row for row, id in enumerate(ids)}
        if len(latest) < len(ids):
            ids, codes = list(latest), codes[list(latest.values())]
        with self._lock:
            self._remove(ids)
            members = self._partitions.get(partition)
            if members is None:
                members = self._partitions[partition] = _Few()
            if isinstance(members, _Few) and len(members.ids) + len(ids) > FEW_MAX:
                members = self._partitions[partition] = _Many(members, self.dimensions)
            members.add(ids, codes)
            for id in ids:
                self._partition_of[id] = partition

    def search(
        self, partition: bytes, vector: NDArray[np.float32], k: int
    ) -> list[tuple[int, float]]:
        """Up to `k` (id, cosine) of the partition, best first; of equal ones the lower id first.

        Among equals for the last place the choice is the index's own.
        """
        assert k > 0
        asked = self._codes(vector.reshape(1, -1))
        with self._lock:
            members = self._partitions.get(partition)
            if members is None:
                return []
            ids, rows = members.nearest(asked, k)
        similarities = _cosines(rows, asked[0])
        return sorted(zip(ids, similarities, strict=True), key=lambda one: (-one[1], one[0]))

    def remove(self, ids: Sequence[int]) -> None:
        """Forget these ids; those not kept are passed over."""
        with self._lock:
            self._remove(ids)

    def _remove(self, ids: Sequence[int]) -> None:
        leaving: dict[bytes, set[int]] = {}
        for id in ids:
            partition = self._partition_of.pop(id, None)
            if partition is not None:
                leaving.setdefault(partition, set()).add(id)
        for partition, gone in leaving.items():
            members = self._partitions[partition]
            if len(gone) == len(members.ids):
                del self._partitions[partition]
            else:
                members.remove(gone)

    def check(self) -> None:
        """Assert that partitions, ids and codes are in step."""
        with self._lock:
            kept = 0
            for partition, members in self._partitions.items():
                assert members.ids, "an empty partition is kept"
                assert len(set(members.ids)) == len(members.ids), "an id is kept twice"
                assert all(self._partition_of[id] == partition for id in members.ids)
                if isinstance(members, _Few):
                    assert len(members.codes) == len(members.ids) * self.dimensions
                else:
                    assert members.index.ntotal == len(members.ids)
                kept += len(members.ids)
            assert kept == len(self._partition_of)

    def _codes(self, vectors: NDArray[np.float32]) -> Codes:
        if vectors.shape[1] != self.dimensions:
            raise ValueError(f"vector of {vectors.shape[1]} dimensions: {self!r}")
        lengths = np.einsum("ij,ij->i", vectors, vectors)
        if not np.all(np.abs(lengths - 1) < _UNIT_TOLERANCE):  # nor is it for NaN and infinity
            raise ValueError("a vector is not of unit length")
        # A vector with a component beyond the clip is shrunk as a whole: its direction, and so its
        # cosine, stays, and only its rank among the nearest suffers.
        peaks = np.abs(vectors).max(axis=1, keepdims=True)
        codes: Codes = np.rint(vectors * np.minimum(self._scale, CODE_MAX / peaks))
        return codes


def _cosines(rows: Codes, asked: Codes) -> list[float]:
    # Squares are whole numbers below 2**24, exact in float32; the rest is done in float64.
    squares = np.einsum("ij,ij->i", rows, rows).astype(np.float64) * float(asked @ asked)
    cosines: list[float] = ((rows @ asked) / np.sqrt(squares)).tolist()
    return cosines
