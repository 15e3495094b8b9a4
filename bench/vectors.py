"""What a search costs: our vectors beside FAISS's flat indexes. One thread.

    python -m bench.vectors

CPU ms of one search for the 8 nearest, the best of nine rounds of 20; bytes a vector; and how many
of the true 8 were among the 8 found. The vectors are clusters of random ones, about as close to
their neighbours as paraphrases are.
"""

from collections.abc import Callable
from time import process_time
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from index.vectors import Vectors

DIMENSIONS, NEAREST, ASKED = 384, 8, 20
Search = Callable[[NDArray[np.float32]], list[int]]


def clusters(count: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(count // 20, DIMENSIONS)).astype(np.float32)
    noise = rng.normal(size=(count, DIMENSIONS)).astype(np.float32)
    return unit(centres[rng.integers(len(centres), size=count)] + 0.6 * noise)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def quantized(kind: int) -> Any:
    return faiss.IndexScalarQuantizer(DIMENSIONS, kind, faiss.METRIC_INNER_PRODUCT)


def flat(index: Any, kept: NDArray[np.float32]) -> Search:
    index.add(kept)
    return lambda asked: index.search(asked[None], NEAREST)[1][0].tolist()


def ours(kept: NDArray[np.float32]) -> Search:
    vectors = Vectors(DIMENSIONS)
    vectors.add(b"", range(len(kept)), kept)
    return lambda asked: [id for id, _ in vectors.search(b"", asked, NEAREST)]


def cpu_ms(search: Search, asked: NDArray[np.float32]) -> float:
    spent = []
    for _ in range(9):
        start = process_time()
        for one in asked:
            search(one)
        spent.append((process_time() - start) * 1e3 / len(asked))
    return min(spent)


def main() -> None:
    for count in (1_000, 10_000, 100_000):
        kept = clusters(count)
        asked = unit(kept[::-1][:ASKED] + 0.02 * clusters(count)[:ASKED])
        rows: dict[str, tuple[int, Search]] = {
            "faiss fp32": (4, flat(faiss.IndexFlatIP(DIMENSIONS), kept)),
            "faiss fp16": (2, flat(quantized(faiss.ScalarQuantizer.QT_fp16), kept)),
            "faiss bf16": (2, flat(quantized(faiss.ScalarQuantizer.QT_bf16), kept)),
            "promptedge": (1, ours(kept)),
        }
        truth = [set(rows["faiss fp32"][1](one)) for one in asked]
        for name, (bytes_each, search) in rows.items():
            found = [set(search(one)) for one in asked]
            recall = sum(len(a & b) for a, b in zip(truth, found, strict=True)) / ASKED / NEAREST
            size = bytes_each * DIMENSIONS
            print(f"{count:>8} {name:<12}{cpu_ms(search, asked):8.3f} ms {size:5} B {recall:7.3f}")


if __name__ == "__main__":
    main()
