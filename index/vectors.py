"""Nearest vectors within a partition, from one entry to ten million, in 100,000 partitions.

    codes        a unit vector as bytes, and how alike two of them are
    places       where the vector of an id is kept
    partitions   a few vectors, or many: who is nearest (arena: their codes; lists: FAISS)

Two locks. `_writing` is held by who adds or removes, for as long as that takes. `_lock` is held by
who searches, and by writers around each single change, however much is growing: at two million
vectors for 0.3 ms as a rule, and for 0.9 ms or less in 999 of 1,000 cases. Nothing runs but on the
thread of who calls.

Why these structures (python -m bench.index, faiss-cpu 1.15.1, one thread, a million vectors of
MiniLM, held-out wordings as questions; each row at the least effort that finds 0.98 of the true 8):

                       search, CPU ms    recall    bytes    add, us
                         p50     p99
    brute force, fp32   69.7    71.2     1         1537        2
    IVF, bytes           0.94    1.40    0.981      599       12, trained before
    IVF, RaBitQ, bytes   0.62    0.76    0.981      486       15, trained before
    ours                 0.46    0.55    0.983      502       34, all trainings included

HNSW is the fastest to search at 10,000 (0.05 ms; ours 0.18), no longer at 100,000 (0.35; 0.24), and
takes more memory, twice the time to add, and cannot remove.

Ten million, right after a restart: 1.5 ms (p99 2.0), recall 0.95, 494 bytes each, or 4.6 GiB.
"""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.arena import Ids, Rows
from index.codes import Codes, encoded, nearest
from index.partitions import Few, Many
from index.places import Places

FEW_MAX = 1024
"""Vectors up to which a partition stays plain bytes: comparing so many takes 0.2 ms."""

CHUNK = 4096
"""Vectors turned into codes at a time, so that a bulk add needs no second copy of its input."""

_ROW_BITS = 32


class Neighbour(NamedTuple):
    id: int
    cosine: float
    codes: Codes
    """Its vector."""


class Vectors:
    """Unit vectors by id, each in one partition. Safe to call from several threads."""

    def __init__(
        self,
        dimensions: int,
        few_max: int = FEW_MAX,
        paused: Callable[[], object] = lambda: None,
    ) -> None:
        """`few_max`: at least 64. `paused` is called after each slice of a growth, on the thread of
        who adds or removes; it may wait, and searches go on.
        """
        self.dimensions = dimensions
        self._few_max = few_max
        self._paused = paused
        self._partitions: dict[bytes, Few | Many] = {}
        self._keys: list[bytes | None] = []  # of partitions, by number
        self._unused: list[int] = []
        self._places = Places()  # number and row
        self._unsettled: dict[bytes, None] = {}
        self._writing = Lock()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"<Vectors {len(self)} in {len(self._partitions)} partitions>"

    def add(self, partition: bytes, ids: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Keep `vectors` (n, d), unit length. An id already kept is replaced, wherever it was.

        Raises ValueError for vectors of another shape or length than one.
        """
        self._add_all(partition, ids, vectors, Many.add)

    def load(self, partition: bytes, ids: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """As `add`, for a start: what large partitions gain may not be found before `settle`."""
        self._add_all(partition, ids, vectors, Many.load)

    def settle(self) -> bool:
        """Do a slice of work, some 15 ms, for what was loaded; False when all of it is found."""
        with self._writing:
            while self._unsettled:
                members = self._partitions.get(next(iter(self._unsettled)))
                if isinstance(members, Many) and members.settle():
                    return True
                del self._unsettled[next(iter(self._unsettled))]
        return False

    def _add_all(
        self,
        partition: bytes,
        ids: Sequence[int],
        vectors: NDArray[np.float32],
        add: Callable[[Many, Ids, Codes], None],
    ) -> None:
        if vectors.shape != (len(ids), self.dimensions):
            raise ValueError(f"{len(ids)} ids of vectors shaped {vectors.shape}: {self!r}")
        for start in range(0, len(ids), CHUNK):
            chunk = slice(start, start + CHUNK)
            self._add(partition, list(map(int, ids[chunk])), encoded(vectors[chunk]), add)

    def _add(
        self,
        partition: bytes,
        ids: list[int],
        codes: Codes,
        add: Callable[[Many, Ids, Codes], None],
    ) -> None:
        """`ids` may repeat: the last one counts."""
        latest = {id: row for row, id in enumerate(ids)}
        if len(latest) < len(ids):
            ids, codes = list(latest), codes[list(latest.values())]
        kept = np.array(ids, np.int64)
        assert len(kept) == 0 or kept.min() >= 0, "ids are those of rows of the file"
        with self._writing:
            self._remove(ids)
            if not ids:
                return
            members = self._partitions.get(partition)
            if members is None:
                members = self._open(partition)
            if isinstance(members, Few) and len(members) + len(ids) > self._few_max:
                members = self._grown(partition, members)
            if isinstance(members, Few):
                with self._lock:
                    members.add(kept, codes)
                self._placed(members.number, kept, np.zeros(len(ids), np.int64))
            else:
                add(members, kept, codes)
                if members.unlisted:
                    self._unsettled[partition] = None

    def _open(self, partition: bytes) -> Few:
        number = self._unused.pop() if self._unused else len(self._keys)
        if number == len(self._keys):
            self._keys.append(partition)
        self._keys[number] = partition
        members = Few(number, self.dimensions)
        with self._lock:
            self._partitions[partition] = members
        return members

    def _grown(self, partition: bytes, few: Few) -> Many:
        many = Many(
            few.number, self.dimensions, self._few_max, self._lock, self._placed, self._paused
        )
        many.add(*few.everything())
        with self._lock:
            self._partitions[partition] = many
        return many

    def _placed(self, number: int, ids: Ids, rows: Rows) -> None:
        self._places.put_all(ids.tolist(), (rows | number << _ROW_BITS).tolist())

    def search(
        self, partition: bytes, vector: NDArray[np.float32], k: int
    ) -> list[tuple[int, float]]:
        """Up to `k` (id, cosine) of the partition, as `neighbours` finds them."""
        return [(one.id, one.cosine) for one in self.neighbours(partition, vector, k)]

    def neighbours(self, partition: bytes, vector: NDArray[np.float32], k: int) -> list[Neighbour]:
        """Up to `k` of the partition, best first; of equal ones the lower id first.

        Among equals for the last place the choice is the index's own. Raises ValueError for a
        vector of another shape or length than one.
        """
        assert k > 0
        if vector.shape != (self.dimensions,):
            raise ValueError(f"vector of {vector.size} dimensions: {self!r}")
        asked = encoded(vector[None])
        with self._lock:
            members = self._partitions.get(partition)
            if members is None:
                return []
            ids, codes = members.candidates(asked[0], k)
        best, cosines = nearest(codes, asked[0], k)
        found = map(Neighbour, ids[best].tolist(), cosines, codes[best])
        return sorted(found, key=lambda one: (-one.cosine, one.id))

    def remove(self, ids: Sequence[int]) -> None:
        """Forget these ids; those not kept are passed over."""
        with self._writing:
            self._remove(ids)

    def _remove(self, ids: Sequence[int]) -> None:
        leaving: dict[int, dict[int, int]] = {}
        for id in ids:
            place = self._places.pop(id)
            if place is not None:
                leaving.setdefault(place >> _ROW_BITS, {})[id] = place & (1 << _ROW_BITS) - 1
        for number, gone in leaving.items():
            self._leave(number, gone)

    def _leave(self, number: int, gone: dict[int, int]) -> None:
        """`gone`: rows by id."""
        key = self._keys[number]
        assert key is not None
        members = self._partitions[key]
        left = len(members) - len(gone)
        if left == 0:
            with self._lock:
                del self._partitions[key]
            self._keys[number] = None
            self._unused.append(number)
        elif isinstance(members, Few):
            with self._lock:
                members.remove(set(gone))
        else:
            members.remove(np.fromiter(gone.values(), np.int64, len(gone)))
            if left <= self._few_max // 4:
                self._diminished(key, members)

    def _diminished(self, key: bytes, many: Many) -> None:
        few = Few(many.number, self.dimensions)
        ids, codes = many.everything()
        few.add(ids, codes)
        with self._lock:
            self._partitions[key] = few
        self._placed(few.number, ids, np.zeros(len(ids), np.int64))

    def check(self) -> None:
        """Assert that partitions, ids and codes are in step."""
        with self._writing:
            self._places.check()
            kept = 0
            for key, members in self._partitions.items():
                assert self._keys[members.number] == key
                ids, rows = members.check()
                assert ids, "an empty partition is kept"
                for id, row in zip(ids, rows, strict=True):
                    assert self._places.get(id) == members.number << _ROW_BITS | row
                kept += len(ids)
            assert kept == len(self._places)
