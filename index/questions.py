"""Questions that were answered, found by meaning: vectors and their texts, in step with the file.

The vectors are all in memory; the texts of those found are needed by the guard, with its reading of
them. Both are kept in memory too, least recently found first out, up to `texts_max_bytes`; the rest
comes from the file in one query (some 60 us for eight). A resident text costs its length, some 500
bytes of reading and about 250 more, a vector what `index.vectors` says.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from index.codes import encoded
from index.decision import COMPARED_MAX, Candidate
from index.entry import PartitionKey, Question
from index.queue import Put
from index.reading import packed, recall
from index.rows import rounded
from index.store import Store
from index.vectors import Neighbour

CANDIDATES = 16
_TEXT_OVERHEAD_BYTES = 250


class Nearest(Protocol):
    """What is needed of `index.vectors.Vectors`; safe to call from several threads."""

    def add(self, partition: bytes, ids: Sequence[int], vectors: NDArray[np.float32]) -> None: ...
    def load(self, partition: bytes, ids: Sequence[int], vectors: NDArray[np.float32]) -> None: ...
    def settle(self) -> bool: ...
    def neighbours(
        self, partition: bytes, vector: NDArray[np.float32], k: int
    ) -> list[Neighbour]: ...
    def remove(self, ids: Sequence[int]) -> None: ...
    def check(self) -> None: ...
    def __len__(self) -> int: ...


class Questions:
    def __init__(
        self,
        store: Store,
        empty: Callable[[int], Nearest],
        dimensions: int,
        texts_max_bytes: int,
    ) -> None:
        self._store = store
        self._empty = empty
        self._vectors = empty(dimensions)
        self.dimensions = dimensions
        # Held over "read from the file, add" and over "remove": a row that is deleted in between
        # would otherwise leave its vector behind.
        self._in_step = Lock()
        self._unproven: set[int] = set()
        self._texts: OrderedDict[int, tuple[str, bytes]] = OrderedDict()
        self._texts_bytes = 0
        self._texts_max_bytes = texts_max_bytes
        self._texts_lock = Lock()

    def __len__(self) -> int:
        return len(self._vectors)

    def candidates(self, question: Question, vector: NDArray[np.float32]) -> list[Candidate]:
        """The nearest in the question's partition, best first.

        What waits to be written counts as well: who asks again at once, in other words, is not to
        wait for the disk.
        """
        found = self._waiting(question, vector)
        waiting = {candidate.id for candidate in found}
        near = self._vectors.neighbours(question.partition, vector, CANDIDATES)
        stored = [one for one in near if one.id not in waiting]
        texts = self._texts_of([one.id for one in stored])
        found += [
            Candidate(one.id, texts[one.id], one.cosine, codes=one.codes)
            for one in stored
            if one.id in texts
        ]
        return sorted(found, key=lambda one: one.similarity, reverse=True)[:CANDIDATES]

    def _waiting(self, question: Question, vector: NDArray[np.float32]) -> list[Candidate]:
        waiting = [
            (put.id, put.entry.question.text, rounded(put.vector))
            for put in self._store.waiting(question.partition)
            if put.vector is not None and put.entry.question is not None
        ]
        return [
            Candidate(id_, text, float(own @ vector), codes=encoded(own[None])[0])
            for id_, text, own in waiting
        ]

    def load(self, last_id: int, after: int) -> int:
        """Add the next stored vectors up to `last_id`; where to go on, 0 at the end.

        They are all found once `settle` was called until it was False.
        """
        with self._in_step:
            batches, reached = self._store.vectors(self.dimensions, last_id, after)
            for batch in batches:
                self._vectors.load(batch.partition, batch.ids, batch.vectors)
                self._unproven.update(batch.unproven)
        return reached

    def settle(self) -> bool:
        return self._vectors.settle()

    def stored(self, puts: Sequence[Put]) -> None:
        """Entries that the file now holds."""
        by_partition: dict[PartitionKey, list[Put]] = {}
        for put in puts:
            if put.vector is not None and put.entry.question is not None:
                by_partition.setdefault(put.entry.question.partition, []).append(put)
                text = put.entry.question.text
                if put.proven:
                    self._remember(put.id, (text, packed(text)))
        with self._in_step:
            for partition, group in by_partition.items():
                self._unproven.update(put.id for put in group if not put.proven)
                vectors = np.stack([put.vector for put in group if put.vector is not None])
                self._vectors.add(partition, [put.id for put in group], rounded(vectors))

    def is_proven(self, id_: int) -> bool:
        """Was its vector made here, or compared with one that was?"""
        return id_ not in self._unproven

    def prove(self, id_: int, partition: PartitionKey, vector: NDArray[np.float32]) -> None:
        """Take our vector of it for the one that came with it, unless it has left meanwhile."""
        with self._in_step:
            if id_ in self._unproven:
                self._unproven.discard(id_)
                self._vectors.add(partition, [id_], rounded(vector)[None])

    def embedded(self, id_: int, partition: PartitionKey, vector: NDArray[np.float32]) -> None:
        """An entry that the file holds has a vector now. In step with the file."""
        with self._in_step:
            self._vectors.add(partition, [id_], rounded(vector)[None])

    @property
    def unproven(self) -> int:
        return len(self._unproven)

    def remove(self, ids: Sequence[int]) -> None:
        with self._in_step:
            self._vectors.remove(ids)
            self._unproven.difference_update(ids)
        with self._texts_lock:
            for id_ in ids:
                if (kept := self._texts.pop(id_, None)) is not None:
                    self._texts_bytes -= _cost(kept)

    def clear(self) -> None:
        """The file was lost, and what pointed into it goes with it."""
        with self._in_step:
            self._vectors = self._empty(self.dimensions)
            self._unproven.clear()
        with self._texts_lock:
            self._texts.clear()
            self._texts_bytes = 0

    def check(self, ids: set[int]) -> None:
        """Audit against the ids that have a vector in the file."""
        self._vectors.check()
        assert len(self._vectors) == len(ids)
        assert self._unproven <= ids
        with self._texts_lock:
            assert self._texts_bytes == sum(map(_cost, self._texts.values()))

    def _texts_of(self, ids: Sequence[int]) -> dict[int, str]:
        """Those that are known; readings of the first are where `read` finds them."""
        with self._texts_lock:
            found = {id_: self._texts[id_] for id_ in ids if id_ in self._texts}
            for id_ in found:
                self._texts.move_to_end(id_)
        if missing := [id_ for id_ in ids if id_ not in found]:
            found |= self._store.texts(missing)
        for id_ in ids[:COMPARED_MAX]:
            if id_ in found and not recall(*found[id_]):
                text, _ = found[id_]  # the rules have changed since it was stored
                found[id_] = text, packed(text)
        for id_ in missing:
            if id_ in found:
                self._remember(id_, found[id_])
        return {id_: text for id_, (text, _) in found.items()}

    def _remember(self, id_: int, kept: tuple[str, bytes]) -> None:
        with self._texts_lock:
            if id_ in self._texts:
                return
            self._texts[id_] = kept
            self._texts_bytes += _cost(kept)
            while self._texts_bytes > self._texts_max_bytes:
                _, forgotten = self._texts.popitem(last=False)
                self._texts_bytes -= _cost(forgotten)


def _cost(kept: tuple[str, bytes]) -> int:
    text, reading = kept
    return len(text) + len(reading) + _TEXT_OVERHEAD_BYTES
