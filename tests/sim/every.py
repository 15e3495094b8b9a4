"""Every run that a few choices allow, one after another (TigerBeetle's exhaustigen).

    for run in every():
        if run.choose(2): ...
        for _ in range(run.choose(3)): ...

Choices may depend on those before them. Each run repeats the last one up to its last choice that
has another way to go, and takes that; so all are seen, each once.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


class Run:
    def __init__(self, path: list[list[int]]) -> None:
        self._path = path
        self._depth = 0

    def choose(self, count: int) -> int:
        """One of 0 .. count - 1."""
        if self._depth == len(self._path):
            self._path.append([0, count])
        chosen, of = self._path[self._depth]
        assert of == count, "the same choices before must lead to the same choice"
        self._depth += 1
        return chosen

    def of(self, options: Sequence[T]) -> T:
        return options[self.choose(len(options))]


def every() -> Iterator[Run]:
    path: list[list[int]] = []
    while True:
        yield Run(path)
        while path and path[-1][0] == path[-1][1] - 1:
            path.pop()
        if not path:
            return
        path[-1][0] += 1
