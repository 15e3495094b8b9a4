"""Indexes that keep vectors for a search of the nearest: ours, and what FAISS has beside it.

Each that searches approximately has steps of effort, and is measured at the first that finds what
is wanted. Where vectors are kept with one bit a dimension, candidates are compared again as bytes.
"""

from collections.abc import Sequence
from math import isqrt
from typing import Any, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from index.vectors import Vectors

Floats = NDArray[np.float32]
DIMENSIONS, NEAREST, BATCH = 384, 8, 512
PRODUCT = faiss.METRIC_INNER_PRODUCT


class Contender(Protocol):
    efforts: Sequence[int]

    def train(self, sample: Floats, count: int) -> None:
        """Get ready for `count` vectors like those of `sample`."""

    def add(self, first: int, vectors: Floats) -> None: ...

    def search(self, asked: Floats, effort: int) -> list[int]: ...


class Ours:
    """Its trainings are part of its additions, and its effort is its own."""

    efforts = (0,)

    def train(self, sample: Floats, count: int) -> None:
        self.vectors = Vectors(DIMENSIONS)

    def add(self, first: int, vectors: Floats) -> None:
        self.vectors.add(b"", range(first, first + len(vectors)), vectors)

    def search(self, asked: Floats, effort: int) -> list[int]:
        return [id for id, _ in self.vectors.search(b"", asked, NEAREST)]


class Started(Ours):
    """The same after a restart, which loads at once what the other grew by."""

    def add(self, first: int, vectors: Floats) -> None:
        self.vectors.load(b"", range(first, first + len(vectors)), vectors)

    def settle(self) -> None:
        while self.vectors.settle():
            pass


class Flat:
    efforts = (0,)

    def train(self, sample: Floats, count: int) -> None:
        self.index = faiss.IndexFlatIP(DIMENSIONS)

    def add(self, first: int, vectors: Floats) -> None:
        self.index.add(vectors)

    def search(self, asked: Floats, effort: int) -> list[int]:
        found: list[int] = self.index.search(asked[None], NEAREST)[1][0].tolist()
        return found


class Hnsw:
    efforts = (64, 128, 256, 512)

    def train(self, sample: Floats, count: int) -> None:
        self.index = faiss.IndexHNSWSQ(DIMENSIONS, faiss.ScalarQuantizer.QT_8bit, 16, PRODUCT)
        self.index.train(sample[:4096])

    def add(self, first: int, vectors: Floats) -> None:
        self.index.add(vectors)

    def search(self, asked: Floats, effort: int) -> list[int]:
        parameters = faiss.SearchParametersHNSW(efSearch=effort)
        found: list[int] = self.index.search(asked[None], NEAREST, params=parameters)[1][0].tolist()
        return found


class Ivf:
    """Vectors as bytes, in lists."""

    efforts = (8, 16, 32, 48, 64, 96)

    def train(self, sample: Floats, count: int) -> None:
        lists = min(1024, 2 * isqrt(count))
        means = faiss.Kmeans(DIMENSIONS, lists, niter=8, spherical=True, seed=1)
        means.cp.max_points_per_centroid = 64
        means.cp.min_points_per_centroid = 1
        means.train(sample)
        self.centres = faiss.IndexFlatIP(DIMENSIONS)
        self.centres.add(means.centroids)
        self.index = self.empty(lists)
        self.index.train(sample[:16384])

    def empty(self, lists: int) -> Any:
        kind = faiss.ScalarQuantizer.QT_8bit
        return faiss.IndexIVFScalarQuantizer(self.centres, DIMENSIONS, lists, kind, PRODUCT)

    def add(self, first: int, vectors: Floats) -> None:
        self.index.add(vectors)

    def search(self, asked: Floats, effort: int) -> list[int]:
        parameters = faiss.SearchParametersIVF(nprobe=effort)
        found: list[int] = self.index.search(asked[None], NEAREST, params=parameters)[1][0].tolist()
        return found


class RaBitQ(Ivf):
    """One bit a dimension in lists, and the vectors as bytes beside them."""

    def empty(self, lists: int) -> Any:
        self.listed = faiss.IndexIVFRaBitQ(self.centres, DIMENSIONS, lists, PRODUCT)
        self.bytes = faiss.IndexScalarQuantizer(DIMENSIONS, faiss.ScalarQuantizer.QT_8bit, PRODUCT)
        return faiss.IndexRefine(self.listed, self.bytes)

    def search(self, asked: Floats, effort: int) -> list[int]:
        parameters = faiss.IndexRefineSearchParameters(
            k_factor=12,
            base_index_params=faiss.IVFRaBitQSearchParameters(nprobe=effort, qb=4),
        )
        found: list[int] = self.index.search(asked[None], NEAREST, params=parameters)[1][0].tolist()
        return found


CONTENDERS: dict[str, type[Contender]] = {
    "brute force": Flat,
    "HNSW16 int8": Hnsw,
    "IVF int8": Ivf,
    "IVF RaBitQ": RaBitQ,
    "promptedge": Ours,
    "restarted": Started,
}
