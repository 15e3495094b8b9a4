"""Vectors against a brute-force model, and the promises of its docstrings."""

from threading import Thread

import faiss
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from numpy.typing import NDArray

from index.codes import encoded, likeness
from index.partitions import CANDIDATES
from index.vectors import CHUNK, FEW_MAX, Vectors

DIMENSIONS = 8
PARTITIONS = [b"a", b"b", b"c"]
SMALL = 64
"""Vectors up to which a partition is few: lowered, so that growing and shrinking are common."""


def units(count: int, dimensions: int = DIMENSIONS, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    made: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return made


# Few enough for ties and repeats to be common.
POOL = units(24)
CODES = encoded(POOL).astype(np.float64)
COSINES = (CODES @ CODES.T) / np.sqrt(np.outer((CODES**2).sum(1), (CODES**2).sum(1)))


class Model(RuleBasedStateMachine):
    """Adds, replacements across partitions, removals and searches, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = Vectors(DIMENSIONS, few_max=SMALL)
        self.kept: dict[int, tuple[bytes, int]] = {}

    @rule(
        partition=st.sampled_from(PARTITIONS),
        rows=st.lists(st.tuples(st.integers(0, 60), st.integers(0, len(POOL) - 1)), max_size=40),
    )
    def add(self, partition: bytes, rows: list[tuple[int, int]]) -> None:
        ids = [id for id, _ in rows]
        self.vectors.add(partition, ids, POOL[[which for _, which in rows]])
        self.kept.update({id: (partition, which) for id, which in rows})

    @rule(
        partition=st.sampled_from(PARTITIONS),
        first=st.integers(0, 200),
        count=st.integers(1, 200),
        shift=st.integers(0, 23),
    )
    def add_many(self, partition: bytes, first: int, count: int, shift: int) -> None:
        self.add(partition, [(first + n, (n * 7 + shift) % len(POOL)) for n in range(count)])

    @rule(
        partition=st.sampled_from(PARTITIONS),
        first=st.integers(0, 200),
        count=st.integers(1, 200),
        between=st.integers(0, 40),
    )
    def start(self, partition: bytes, first: int, count: int, between: int) -> None:
        """Vectors are loaded, and one is added and one removed before they are all found."""
        ids = list(range(first, first + count))
        rows = [id % len(POOL) for id in ids]
        self.vectors.load(partition, ids, POOL[rows])
        self.kept.update({id: (partition, which) for id, which in zip(ids, rows, strict=True)})
        self.vectors.check()
        self.add(partition, [(between, 3)])
        while self.vectors.settle():
            self.remove([first + between])

    @rule(ids=st.lists(st.integers(0, 400), max_size=30))
    def remove(self, ids: list[int]) -> None:
        self.vectors.remove(ids)
        for id in ids:
            self.kept.pop(id, None)

    @rule(first=st.integers(0, 400), count=st.integers(1, 300))
    def remove_many(self, first: int, count: int) -> None:
        self.remove(list(range(first, first + count)))

    @precondition(lambda self: self.kept)
    @rule(data=st.data(), keep=st.integers(0, 3))
    def remove_nearly_all(self, data: st.DataObject, keep: int) -> None:
        self.remove(data.draw(st.permutations(sorted(self.kept)))[keep:])

    @rule(
        partition=st.sampled_from(PARTITIONS),
        asked=st.integers(0, len(POOL) - 1),
        k=st.integers(1, 70),
    )
    def search(self, partition: bytes, asked: int, k: int) -> None:
        found = self.vectors.search(partition, POOL[asked], k)
        members = {id: which for id, (kept_in, which) in self.kept.items() if kept_in == partition}
        assert len(dict(found)) == len(found) == min(k, len(members))
        for id, similarity in found:
            assert similarity == pytest.approx(COSINES[asked, members[id]], abs=1e-9)
        assert found == sorted(found, key=lambda one: (-one[1], one[0]))
        best = sorted((COSINES[asked, which] for which in members.values()), reverse=True)
        exact = k if len(members) <= CANDIDATES else 8
        assert [cosine for _, cosine in found[:exact]] == pytest.approx(best[:k][:exact], abs=1e-6)

    @invariant()
    def in_step(self) -> None:
        self.vectors.check()
        assert len(self.vectors) == len(self.kept)


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestModel = Model.TestCase


@pytest.mark.parametrize("count", [3, 500, FEW_MAX, FEW_MAX + 1, 5 * FEW_MAX])
def test_a_vector_finds_itself_first(count: int) -> None:
    vectors, kept = Vectors(384), units(count, 384)
    vectors.add(b"p", range(100, 100 + count), kept)
    for row in range(0, count, 7 if count < 100 else 61):
        id, similarity = vectors.search(b"p", kept[row], 8)[0]
        assert id == 100 + row
        assert 0.998 < similarity <= 1.0


def test_similarity_is_the_cosine_to_two_thousandths() -> None:
    kept, asked = units(2000, 384, seed=1), units(20, 384, seed=2)
    vectors = Vectors(384)
    vectors.add(b"p", range(2000), kept)
    for one in asked:
        for id, similarity in vectors.search(b"p", one, 8):
            assert similarity == pytest.approx(float(kept[id] @ one), abs=2e-3)


def test_similarity_does_not_depend_on_how_a_partition_is_kept() -> None:
    kept, asked = units(FEW_MAX + 1, 384), units(1, 384, seed=3)[0]
    vectors = Vectors(384)
    vectors.add(b"few", range(FEW_MAX), kept[:FEW_MAX])
    vectors.add(b"many", range(5000, 5000 + FEW_MAX + 1), kept)
    few = dict(vectors.search(b"few", asked, FEW_MAX))
    many = dict(vectors.search(b"many", asked, FEW_MAX + 1))
    assert {5000 + id: similarity for id, similarity in few.items()}.items() <= many.items()


def test_outliers_keep_their_direction() -> None:
    kept = units(40, 384)
    kept[::2, 7] += 0.9
    kept /= np.linalg.norm(kept, axis=1, keepdims=True)
    vectors = Vectors(384)
    vectors.add(b"p", range(40), kept)
    for asked in kept[:4]:
        for id, similarity in vectors.search(b"p", asked, 40):
            assert similarity == pytest.approx(float(kept[id] @ asked), abs=2e-2)


def test_partitions_are_a_hard_border() -> None:
    vectors = Vectors(DIMENSIONS)
    vectors.add(b"a", [1], POOL[:1])
    assert vectors.search(b"b", POOL[0], 8) == []
    vectors.add(b"b", [1], POOL[:1])
    assert vectors.search(b"a", POOL[0], 8) == []
    assert len(vectors) == 1


def test_equal_vectors_come_in_the_order_of_their_ids() -> None:
    vectors = Vectors(DIMENSIONS)
    vectors.add(b"p", [9, 4, 7], np.repeat(POOL[:1], 3, axis=0))
    assert [id for id, _ in vectors.search(b"p", POOL[0], 8)] == [4, 7, 9]


@pytest.mark.parametrize("count", [30, FEW_MAX + 1])
def test_neighbours_bring_the_vectors_that_they_were_found_by(count: int) -> None:
    vectors, kept = Vectors(384), units(count, 384)
    vectors.add(b"p", range(count), kept)
    found = vectors.neighbours(b"p", kept[3], 8)
    assert [(one.id, one.cosine) for one in found] == vectors.search(b"p", kept[3], 8)
    alike = likeness(np.stack([one.codes for one in found]))
    assert alike.diagonal() == pytest.approx(1, abs=1e-5)
    assert alike[0] == pytest.approx([one.cosine for one in found], abs=1e-5)


def test_a_bulk_add_spans_chunks() -> None:
    count = CHUNK + 5
    vectors, kept = Vectors(DIMENSIONS), units(count)
    vectors.add(b"p", range(count), kept)
    vectors.check()
    assert len(vectors) == count
    vectors.remove(range(0, count, 2))
    vectors.check()
    assert all(id % 2 for id, _ in vectors.search(b"p", kept[0], 50))
    vectors.remove(range(count))
    assert repr(vectors) == "<Vectors 0 in 0 partitions>"


def test_nearly_all_of_a_partition_may_leave_at_once() -> None:
    """Where its lists were due to be made anew, of too few vectors to make any."""
    for left in range(20):
        vectors, kept = Vectors(DIMENSIONS, few_max=SMALL), units(340)
        vectors.add(b"p", range(340), kept)
        vectors.remove(range(0, 340, 2))
        vectors.add(b"p", range(0, 340, 2), kept[::2])
        vectors.remove(range(left, 340))
        vectors.check()
        assert {id for id, _ in vectors.search(b"p", kept[0], 50)} == set(range(left))


def test_all_that_was_loaded_is_found_once_settled() -> None:
    count = 20_000
    vectors, kept = Vectors(DIMENSIONS, few_max=SMALL), units(count)
    for first in range(0, count, 500):
        ids = range(first, first + 500)
        vectors.load(b"p", ids, kept[first : first + 500])
        assert vectors.search(b"p", kept[0], 1)[0][1] == pytest.approx(1)
    vectors.check()
    vectors.remove(range(1, count, 3))
    slices = 0
    while vectors.settle():
        late = count + slices
        vectors.add(b"p", [late], kept[slices : slices + 1])
        slices += 1
    vectors.check()
    assert slices > 10
    for id in (0, 3, 9_999, count - 2, count + slices - 1):
        row = id - count if id >= count else id
        assert id in dict(vectors.search(b"p", kept[row], 8))


@pytest.mark.parametrize(
    "vectors",
    [
        np.full((1, DIMENSIONS), np.nan, np.float32),
        np.full((1, DIMENSIONS), np.inf, np.float32),
        np.zeros((1, DIMENSIONS), np.float32),
        2 * POOL[:1],
        POOL[:2],
        POOL[:1, :-1],
    ],
)
def test_what_is_not_a_unit_vector_is_refused(vectors: NDArray[np.float32]) -> None:
    kept = Vectors(DIMENSIONS)
    with pytest.raises(ValueError, match=r"unit length|Vectors 0"):
        kept.add(b"p", [1], vectors)
    kept.check()
    assert len(kept) == 0


def test_a_question_of_other_dimensions_is_refused() -> None:
    with pytest.raises(ValueError, match="7 dimensions"):
        Vectors(DIMENSIONS).search(b"p", POOL[0, :-1], 1)


def test_threads_add_search_and_remove_at_once() -> None:
    vectors, kept = Vectors(DIMENSIONS), units(600)
    wrong: list[object] = []

    def write(first: int) -> None:
        for id in range(first, first + 200):
            vectors.add(b"p", [id], kept[id : id + 1])
            if id % 3 == 0:
                vectors.remove([id])

    def read() -> None:
        for row in range(200):
            found = vectors.search(b"p", kept[row], 8)
            wrong.extend(id for id, _ in found if not 0 <= id < 600)

    threads = [Thread(target=write, args=(first,)) for first in (0, 200, 400)]
    threads.append(Thread(target=read))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    vectors.check()
    assert not wrong
    assert len(vectors) == 400


def test_a_search_stays_on_the_thread_that_asks() -> None:
    count = 2 * FEW_MAX
    vectors, kept = Vectors(384), units(count, 384)
    vectors.add(b"p", range(count), kept)
    allowed: list[int] = []

    def ask() -> None:
        faiss.omp_set_num_threads(2)
        vectors.search(b"p", kept[0], 8)
        allowed.append(faiss.omp_get_max_threads())

    thread = Thread(target=ask)
    thread.start()
    thread.join()
    assert allowed == [1]
