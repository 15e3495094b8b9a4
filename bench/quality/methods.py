"""What every rule is to the bench, and the rules that are a cosine and a cut.

A rule sees what a gateway sees: the request, the nearest stored requests with their cosines, and
whatever the upstream says when it is asked. Whether a hit was right only the bench knows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from bench.quality.sets import Turn
from index.codes import Codes

STATIC_GRID = (0.80, 0.83, 0.86, 0.89, 0.92, 0.95, 0.97, 0.98, 0.99)


class Near(NamedTuple):
    """A stored request."""

    id: int
    turn: Turn
    cosine: float
    codes: Codes | None = None
    """Its vector; None where it is the only one."""


class Decision(NamedTuple):
    """`serve` answers; None is a miss. A hit with `shadow` goes upstream as well.

    `reason` says why it is a miss, or what kind of hit.
    """

    serve: Near | None
    shadow: bool = False
    reason: str = ""


MISS = Decision(None)


class Fresh(Protocol):
    """What the upstream has just answered, as a node would compare it."""

    def agrees(self, id: int) -> bool:
        """Does the stored answer say the same? Wrong as often as the upstream disagrees."""

    def again(self) -> bool:
        """Ask once more, which is paid for: do the two answers say the same?"""


class Method(Protocol):
    name: str
    bound: float | None
    """The share that it promises not to exceed; None promises nothing."""
    nearest: int
    """How many stored requests it wants to see."""

    def decide(self, asked: Turn, near: Sequence[Near]) -> Decision: ...

    def after(self, asked: Turn, near: Sequence[Near], served: Near | None, fresh: Fresh) -> bool:
        """The upstream was asked, on a miss or in the shadow of a hit. Is the answer stored?"""


@dataclass
class Static:
    """One cut for all, the nearest entry, everything that missed is stored."""

    name: str
    cut: float
    bound: float | None = None
    nearest: int = 1

    def decide(self, asked: Turn, near: Sequence[Near]) -> Decision:
        return Decision(near[0]) if near and near[0].cosine >= self.cut else MISS

    def after(self, asked: Turn, near: Sequence[Near], served: Near | None, fresh: Fresh) -> bool:
        return True


def static() -> Iterator[Static]:
    """The grid, then two products at their shipped defaults, here on the bench's own encoder.

    GPTCache 0.1.44: its FAISS store gives the squared distance of unit vectors, 2 - 2 cos; what is
    compared with similarity_threshold 0.8 is (4 - distance) / 4, so that it serves from 0.60 on.
    Read as a cosine, its 0.8 is the first row of the grid. RedisVL: cosine distance up to 0.1.
    """
    yield from (Static(f"cosine {cut:.2f}", cut) for cut in STATIC_GRID)
    yield Static("GPTCache default (0.60)", 0.60)
    yield Static("RedisVL default (0.90)", 0.90)
