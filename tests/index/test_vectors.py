"""Vectors against a brute-force model, and the promises of its docstrings."""

import math
from threading import Thread

import faiss
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from numpy.typing import NDArray

from index.vectors import CHUNK, FEW_MAX, Vectors

DIMENSIONS = 8
PARTITIONS = [b"a", b"b", b"c"]


def units(count: int, dimensions: int = DIMENSIONS, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    made: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return made


# Few enough for ties and repeats to be common.
POOL = units(24)


CODES = [[round(float(x) * 127 * DIMENSIONS**0.5 / 7) for x in vector] for vector in POOL]


def product(one: int, other: int) -> int:
    return sum(a * b for a, b in zip(CODES[one], CODES[other], strict=True))


def cosine(one: int, other: int) -> float:
    return product(one, other) / math.sqrt(product(one, one) * product(other, other))


class Model(RuleBasedStateMachine):
    """Adds, replacements across partitions, removals and searches, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = Vectors(DIMENSIONS)
        self.kept: dict[int, tuple[bytes, int]] = {}

    @rule(
        partition=st.sampled_from(PARTITIONS),
        rows=st.lists(st.tuples(st.integers(0, 60), st.integers(0, len(POOL) - 1)), max_size=40),
    )
    def add(self, partition: bytes, rows: list[tuple[int, int]]) -> None:
        ids = [id for id, _ in rows]
        self.vectors.add(partition, ids, POOL[[which for _, which in rows]])
        self.kept.update({id: (partition, which) for id, which in rows})

    @rule(ids=st.lists(st.integers(0, 70), max_size=30))
    def remove(self, ids: list[int]) -> None:
        self.vectors.remove(ids)
        for id in ids:
            self.kept.pop(id, None)

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
            assert similarity == pytest.approx(cosine(asked, members[id]), abs=1e-9)
        assert found == sorted(found, key=lambda one: (-one[1], one[0]))
        products = [product(asked, members.pop(id)) for id, _ in found]
        assert all(product(asked, which) <= min(products) for which in members.values())

    @invariant()
    def in_step(self) -> None:
        self.vectors.check()
        assert len(self.vectors) == len(self.kept)


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestModel = Model.TestCase


@pytest.mark.parametrize("count", [3, FEW_MAX, FEW_MAX + 1, 500])
def test_a_vector_finds_itself_first(count: int) -> None:
    vectors, kept = Vectors(384), units(count, 384)
    vectors.add(b"p", range(100, 100 + count), kept)
    for row in range(0, count, 7):
        id, similarity = vectors.search(b"p", kept[row], 8)[0]
        assert id == 100 + row
        assert 0.998 < similarity <= 1.0


def test_similarity_is_the_cosine_to_five_thousandths() -> None:
    kept, asked = units(2000, 384, seed=1), units(20, 384, seed=2)
    vectors = Vectors(384)
    vectors.add(b"p", range(2000), kept)
    for one in asked:
        for id, similarity in vectors.search(b"p", one, 8):
            assert similarity == pytest.approx(float(kept[id] @ one), abs=5e-3)


def test_similarity_does_not_depend_on_how_a_partition_is_kept() -> None:
    kept, asked = units(FEW_MAX + 1, 384), units(1, 384, seed=3)[0]
    vectors = Vectors(384)
    vectors.add(b"few", range(FEW_MAX), kept[:FEW_MAX])
    vectors.add(b"many", range(100, 100 + FEW_MAX + 1), kept)
    few = dict(vectors.search(b"few", asked, 99))
    many = dict(vectors.search(b"many", asked, 99))
    assert {100 + id: similarity for id, similarity in few.items()}.items() <= many.items()


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
    assert repr(vectors) == "<Vectors 0 in 0 partitions, 0.0 MiB>"
    assert vectors.nbytes == 0


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
    vectors, kept = Vectors(384), units(500, 384)
    vectors.add(b"p", range(500), kept)
    allowed: list[int] = []

    def ask() -> None:
        faiss.omp_set_num_threads(2)
        vectors.search(b"p", kept[0], 8)
        allowed.append(faiss.omp_get_max_threads())

    thread = Thread(target=ask)
    thread.start()
    thread.join()
    assert allowed == [1]
