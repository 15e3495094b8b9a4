"""Where the vector of an id is kept, in 16 bytes an id.

A dictionary of as many integers takes over a hundred. Here ids and their places are two columns in
the order of the ids, cut into pages: a look-up bisects the pages, then the page (1 us), and an
insertion moves half a page at most. Ids are given out upwards, so most are appended, and a page
is full before the next is begun.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise

PAGE_MAX = 2048
"""Ids a page: moving half of them takes a microsecond, and a million ids make 500 pages."""


class _Page:
    __slots__ = ("ids", "places")

    def __init__(self) -> None:
        self.ids = array("q")
        self.places = array("q")


class Places:
    """Whole numbers below 2**63 by id. Not safe to change from two threads at once."""

    def __init__(self) -> None:
        self._firsts: list[int] = []  # no id of a page is below its first, but of the first page
        self.pages: list[_Page] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, id: int) -> int | None:
        page, at = self._find(id)
        return None if page is None else page.places[at]

    def put(self, id: int, place: int) -> None:
        pages = self.pages
        if not pages or (id > pages[-1].ids[-1] and len(pages[-1].ids) >= PAGE_MAX):
            self._firsts.append(id)
            pages.append(_Page())
        number = self._number(id)
        page = pages[number]
        at = bisect_left(page.ids, id)
        if at < len(page.ids) and page.ids[at] == id:
            page.places[at] = place
            return
        page.ids.insert(at, id)
        page.places.insert(at, place)
        self._count += 1
        if len(page.ids) > PAGE_MAX:
            self._halve(number)

    def put_all(self, ids: Sequence[int], places: Sequence[int]) -> None:
        """`put` each; where they come in order and after all others, a page at a time."""
        last = self.pages[-1].ids[-1] if self.pages else -1
        if not ids or ids[0] <= last or any(one >= other for one, other in pairwise(ids)):
            for id, place in zip(ids, places, strict=True):
                self.put(id, place)
            return
        done = 0
        while done < len(ids):
            if not self.pages or len(self.pages[-1].ids) >= PAGE_MAX:
                self._firsts.append(ids[done])
                self.pages.append(_Page())
            page = self.pages[-1]
            part = slice(done, done + PAGE_MAX - len(page.ids))
            page.ids.extend(ids[part])
            page.places.extend(places[part])
            done = part.stop
        self._count += len(ids)

    def pop(self, id: int) -> int | None:
        page, at = self._find(id)
        if page is None:
            return None
        self._count -= 1
        place = page.places.pop(at)
        if len(page.ids) == 1:
            number = self._number(id)
            del self.pages[number], self._firsts[number]
        else:
            del page.ids[at]
        return place

    def check(self) -> None:
        """Assert that ids ascend and are counted."""
        ids = [id for page in self.pages for id in page.ids]
        assert all(one < other for one, other in pairwise(ids))
        assert self._count == len(ids) == sum(len(page.places) for page in self.pages)
        assert all(page.ids for page in self.pages), "an empty page is kept"

    def _number(self, id: int) -> int:
        """Of the page that has `id`, if any has."""
        return max(bisect_right(self._firsts, id) - 1, 0)

    def _find(self, id: int) -> tuple[_Page, int] | tuple[None, int]:
        if not self.pages or id > self.pages[-1].ids[-1]:
            return None, 0  # as most new ones are
        page = self.pages[self._number(id)]
        at = bisect_left(page.ids, id)
        return (page, at) if at < len(page.ids) and page.ids[at] == id else (None, 0)

    def _halve(self, number: int) -> None:
        page, upper = self.pages[number], _Page()
        half = len(page.ids) // 2
        upper.ids, upper.places = page.ids[half:], page.places[half:]
        del page.ids[half:], page.places[half:]
        self._firsts.insert(number + 1, upper.ids[0])
        self.pages.insert(number + 1, upper)
