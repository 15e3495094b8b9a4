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
