"""One vector a text, made once and kept; the nearest of each text, exactly.

Every method sees these vectors and no others. The file is named after the encoder's fingerprint,
so that vectors of two encoders never meet, and holds the digest of each text beside its vector.
"""

from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.codes import encoded
from index.embedding import Embedder

Vectors = NDArray[np.float32]
Places = NDArray[np.int32]

NEIGHBOURS = 256
"""Kept of each text, nearest first. A stream asks for the nearest that it has stored: nearly always
among these once much is stored, and before that comparing with all that is stored is cheap."""

_EMBEDDED_BETWEEN_SAVES = 4096
_COMPARED_AT_ONCE = 512


class Vault:
    """Vectors by text, in one file of `folder` for each encoder."""

    def __init__(self, embedder: Embedder, folder: Path) -> None:
        self._embedder = embedder
        self._path = folder / f"vectors-{embedder.fingerprint}.npz"
        self._place: dict[bytes, int] = {}
        self._vectors: Vectors = np.empty((0, embedder.dimensions), np.float32)
        if self._path.is_file():
            with np.load(self._path) as kept:
                self._vectors = kept["vectors"]
                self._place = {key.tobytes(): at for at, key in enumerate(kept["digests"])}

    def of(self, texts: Sequence[str]) -> Vectors:
        """(n, dimensions), unit length, in the order given."""
        keys = [_digest(text) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True)}
        missing = {key: text for key, text in missing.items() if key not in self._place}
        for batch in _batches(list(missing), _EMBEDDED_BETWEEN_SAVES):
            made = self._embedder.embed([missing[key] for key in batch])
            start = len(self._vectors)
            self._vectors = np.concatenate([self._vectors, made])
            self._place |= {key: start + at for at, key in enumerate(batch)}
            self._save()
        found: Vectors = self._vectors[[self._place[key] for key in keys]]
        return found

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        written = self._path.with_name("writing.npz")
        digests = np.frombuffer(b"".join(self._place), np.uint8).reshape(-1, 16)
        np.savez(written, vectors=self._vectors, digests=digests)
        written.replace(self._path)


class Neighbours:
    """The nearest of each text among all: `places` and `cosines`, (n, NEIGHBOURS), best first.

    Asked for the nearest *stored*, it is exact: what the list cannot settle is compared with all.
    """

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors
        self.codes = encoded(vectors)
        count = min(NEIGHBOURS, len(vectors))
        self.places: Places = np.empty((len(vectors), count), np.int32)
        self.cosines: Vectors = np.empty((len(vectors), count), np.float32)
        for start in range(0, len(vectors), _COMPARED_AT_ONCE):
            block = vectors[start : start + _COMPARED_AT_ONCE] @ vectors.T
            rows = slice(start, start + len(block))
            near = np.argpartition(-block, count - 1, axis=1)[:, :count]
            cosines = np.take_along_axis(block, near, axis=1)
            order = np.argsort(-cosines, axis=1, kind="stable")
            self.places[rows] = np.take_along_axis(near, order, axis=1)
            self.cosines[rows] = np.take_along_axis(cosines, order, axis=1)

    def stored(
        self, of: int, stored: NDArray[np.bool_], members: Collection[int], k: int
    ) -> list[tuple[int, float]]:
        """The k nearest of text `of` among `members`, which `stored` says again as a mask."""
        listed = self.places[of]
        known = np.flatnonzero(stored[listed])[:k]
        if len(known) == min(k, len(members)):
            return list(zip(listed[known].tolist(), self.cosines[of][known].tolist(), strict=True))
        among = np.fromiter(members, np.int32, len(members))
        cosines = self._vectors[among] @ self._vectors[of]
        best = np.argsort(-cosines, kind="stable")[:k]
        return list(zip(among[best].tolist(), cosines[best].tolist(), strict=True))


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


def _batches(keys: list[bytes], size: int) -> Iterable[list[bytes]]:
    return (keys[start : start + size] for start in range(0, len(keys), size))
