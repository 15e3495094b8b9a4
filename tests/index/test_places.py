"""Places against a dictionary."""

import sys
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from index.places import PAGE_MAX, Places


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=80))
def test_places_are_those_of_a_dictionary(steps: list[tuple[bool, int]]) -> None:
    places, expected = Places(), dict[int, int]()
    for at, (kept, id) in enumerate(steps):
        if kept:
            places.put(id, at)
            expected[id] = at
        else:
            assert places.pop(id) == expected.pop(id, None)
        places.check()
    assert len(places) == len(expected)
    assert [places.get(id) for id in range(42)] == [expected.get(id) for id in range(42)]


@given(st.lists(st.lists(st.integers(0, 60), max_size=8), max_size=12), st.booleans())
def test_many_at_once_are_put_as_one_by_one(groups: list[list[int]], ascending: bool) -> None:
    at_once, expected = Places(), dict[int, int]()
    for number, ids in enumerate(groups):
        group = sorted(100 * number + id for id in set(ids)) if ascending else ids
        at_once.put_all(group, range(number, number + len(group)))
        expected |= dict(zip(group, range(number, number + len(group)), strict=True))
        at_once.check()
    assert len(at_once) == len(expected)
    assert all(at_once.get(id) == place for id, place in expected.items())


def test_many_that_ascend_fill_pages() -> None:
    places = Places()
    for first in (0, 3, PAGE_MAX + 1, 4 * PAGE_MAX):
        ids = range(len(places), 5 * PAGE_MAX + first)
        places.put_all(ids, ids)
        places.check()
        assert all(len(page.ids) == PAGE_MAX for page in places.pages[:-1])
    assert all(places.get(id) == id for id in range(9 * PAGE_MAX))


def test_ids_may_come_in_any_order_and_leave_in_another() -> None:
    ids, places = list(range(0, 6 * PAGE_MAX, 2)), Places()
    Random(1).shuffle(ids)
    for id in ids:
        places.put(id, id + 7)
    places.check()
    assert all(places.get(id) == id + 7 for id in ids)
    assert all(places.get(id + 1) is None for id in ids)
    Random(2).shuffle(ids)
    for id in ids:
        assert places.pop(id) == id + 7
    places.check()
    assert len(places) == 0


def test_ascending_ids_take_18_bytes_each_at_most() -> None:
    places, count = Places(), 8 * PAGE_MAX
    for id in range(count):
        places.put(id, id)
    taken = sum(sys.getsizeof(page.ids) + sys.getsizeof(page.places) for page in places.pages)
    assert taken <= 18 * count
