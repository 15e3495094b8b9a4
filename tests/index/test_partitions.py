"""One partition: growing, shrinking, and what is found meanwhile."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock

import numpy as np
import pytest
from numpy.typing import NDArray

from index.arena import Ids, Rows
from index.codes import encoded
from index.partitions import SPARSE, STALE, Many
from index.vectors import Vectors
from tests.index.test_vectors import units

DIMENSIONS, FEW_MAX = 32, 64


def clusters(count: int, dimensions: int = DIMENSIONS, seed: int = 0) -> NDArray[np.float32]:
    """In twenties, as alike as rewordings are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(1, count // 20), dimensions))
    vectors = centres[rng.integers(len(centres), size=count)]
    vectors += 0.5 * rng.normal(size=(count, dimensions))
    made: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return made.astype(np.float32)


class Partition:
    """`Many`, with the rows of its ids."""

    def __init__(self) -> None:
        self.rows: dict[int, int] = {}
        self.many = Many(0, DIMENSIONS, FEW_MAX, Lock(), self._placed, lambda: None)

    def _placed(self, number: int, ids: Ids, rows: Rows) -> None:
        self.rows.update(zip(ids.tolist(), rows.tolist(), strict=True))

    def add(self, ids: range, vectors: NDArray[np.float32]) -> None:
        self.many.add(np.array(ids), encoded(vectors))

    def remove(self, ids: range) -> None:
        self.many.remove(np.array([self.rows.pop(id) for id in ids]))

    def check(self) -> None:
        assert dict(zip(*self.many.check(), strict=True)) == self.rows


def test_many_are_found_as_if_each_was_compared() -> None:
    vectors, asked = Vectors(64), clusters(6100, 64)
    kept, asked = asked[:6000], asked[6000:]
    vectors.add(b"p", range(6000), kept)
    found = [{id for id, _ in vectors.search(b"p", one, 8)} for one in asked]
    truth = [set(np.argsort(-(kept @ one))[:8].tolist()) for one in asked]
    share = sum(len(a & b) for a, b in zip(found, truth, strict=True)) / 800
    assert share >= 0.98


def test_searches_go_on_while_a_growth_is_held() -> None:
    held, release = Event(), Event()

    def wait() -> None:
        held.set()
        assert release.wait(60)

    vectors, kept = Vectors(DIMENSIONS, few_max=FEW_MAX, paused=wait), units(200, DIMENSIONS)
    vectors.add(b"p", range(FEW_MAX), kept[:FEW_MAX])
    with ThreadPoolExecutor(2) as threads:
        try:
            writer = threads.submit(vectors.add, b"p", range(FEW_MAX, 200), kept[FEW_MAX:])
            assert held.wait(60)
            for row in range(FEW_MAX):
                search = threads.submit(vectors.search, b"p", kept[row], 1)
                assert search.result(timeout=60)[0][0] == row
            assert not writer.done()
        finally:
            release.set()
    vectors.check()
    assert len(vectors) == 200


def test_all_that_was_added_is_found_after_each_slice_of_a_growth() -> None:
    kept, slices = clusters(1500), 0

    def search() -> None:
        nonlocal slices
        slices += 1
        for row in {0, reached - 1, slices % reached}:
            assert vectors.search(b"p", kept[row], 1)[0][1] == pytest.approx(1)
            assert vectors.search(b"p", kept[row], 1)[0][0] == row

    vectors = Vectors(DIMENSIONS, few_max=FEW_MAX, paused=search)
    for reached in range(1, len(kept) + 1):
        vectors.add(b"p", [reached - 1], kept[reached - 1 : reached])
    assert slices > 20


def test_a_partition_that_changes_but_does_not_grow_takes_no_more_rows_or_listings() -> None:
    partition, kept = Partition(), clusters(6000)
    partition.add(range(500), kept[:500])
    for first in range(500, 6000, 10):
        partition.remove(range(first - 500, first - 490))
        partition.add(range(first, first + 10), kept[first : first + 10])
        assert partition.many.rows == 500
        # While the lists are made anew, the old ones are added to.
        assert partition.many.listed <= 500 * (STALE + 1)
    partition.check()


def test_rows_are_given_back_as_a_partition_shrinks() -> None:
    partition, kept = Partition(), clusters(5000)
    partition.add(range(4000), kept[:4000])
    partition.remove(range(3600))
    for first in range(4000, 5000, 10):  # the work is done by who comes next
        partition.add(range(first, first + 10), kept[first : first + 10])
        partition.remove(range(first - 400, first - 390))
    assert partition.many.rows <= SPARSE * 400
    partition.check()
    ids, codes = partition.many.everything()
    order = np.argsort(ids)
    assert ids[order].tolist() == list(range(4600, 5000))
    assert np.array_equal(codes[order], encoded(kept[4600:]))


def test_what_is_left_is_found_where_nearly_all_were_removed() -> None:
    vectors, kept = Vectors(DIMENSIONS, few_max=FEW_MAX), units(3000, DIMENSIONS)
    kept[:400] = kept[0] + 0.05 * kept[:400]
    kept[:400] /= np.linalg.norm(kept[:400], axis=1, keepdims=True)
    vectors.add(b"p", range(3000), kept)
    order = np.argsort(-(kept[:400] @ kept[0]))
    vectors.remove(order[:390].tolist())
    found = [id for id, _ in vectors.search(b"p", kept[0], 8)]
    assert set(found) <= set(order[390:].tolist())
    assert len(found) == 8


def test_what_is_left_is_found_after_each_slice_of_a_shrinking() -> None:
    kept, slices, left = units(3000, DIMENSIONS), 0, list(range(3000))

    def search() -> None:
        nonlocal slices
        slices += 1
        if len(left) < 3000:
            # The lists that are nearest to what was removed may have nothing any more.
            assert len(vectors.search(b"p", kept[slices], 8)) == 8
            for id in (left[slices % len(left)], left[-1 - slices % len(left)]):
                assert vectors.search(b"p", kept[id], 1)[0][0] == id

    vectors = Vectors(DIMENSIONS, few_max=FEW_MAX, paused=search)
    vectors.add(b"p", range(3000), kept)
    grown, left = slices, list(range(2960, 3000))
    vectors.remove(range(2960))
    for id in range(3000, 3100):  # the work is done by who comes next
        vectors.add(b"p", [id], kept[:1])
        vectors.remove([id])
    vectors.check()
    assert slices > grown + 10


def test_a_partition_may_shrink_to_a_few_and_grow_again() -> None:
    vectors, kept = Vectors(DIMENSIONS, few_max=FEW_MAX), units(300, DIMENSIONS)
    for _ in range(3):
        vectors.add(b"p", range(300), kept)
        vectors.remove(range(3, 300))
        vectors.check()
        assert [vectors.search(b"p", kept[id], 1)[0][0] for id in range(3)] == [0, 1, 2]


def test_vectors_that_are_all_the_same_do_not_break_the_lists() -> None:
    vectors = Vectors(DIMENSIONS, few_max=FEW_MAX)
    vectors.add(b"p", range(2000), np.repeat(units(1, DIMENSIONS), 2000, axis=0))
    assert len(vectors.search(b"p", units(1, DIMENSIONS)[0], 8)) == 8
    vectors.check()
