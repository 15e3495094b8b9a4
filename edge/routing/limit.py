"""How many requests at a time may wait for an upstream's first token before others are preferred.

Gradient2 of Netflix's concurrency-limits: while first tokens take about as long as they usually
do, the limit grows by the square root of itself (the queue that is put up with); as they take
longer, it shrinks in proportion. What is usual is known by length of prompt: the shortest time ever
seen, which other algorithms measure against, belongs to the shortest prompt. A good part of the
limit must be in use, or nobody knows what more would do.
"""

from dataclasses import dataclass
from math import sqrt

from edge.routing.settings import LIMIT_MIN

LIMIT_FIRST = 32.0
TOLERANCE = 1.6
"""So much longer than usual is not yet a queue."""
SMOOTHING = 0.2
IN_USE = 0.3
"""The share of the limit from which on an upstream is busy: its limit may grow, others are looked
at too, and one more request is expected to wait longer."""


@dataclass(slots=True)
class Limit:
    most: int
    now: float = LIMIT_FIRST
    least: float = float(LIMIT_MIN)

    def __post_init__(self) -> None:
        self.now = min(self.now, self.most)

    def answered(self, ttft_s: float, usual_s: float, waiting: int) -> None:
        """After `ttft_s`, with so many `waiting`, it itself included."""
        if waiting < IN_USE * self.now:
            return
        gradient = min(1.0, max(0.5, TOLERANCE * usual_s / ttft_s))
        self._move(self.now * gradient + sqrt(self.now))

    def refused(self) -> None:
        """It said that this is too much."""
        self._move(self.now / 2)

    def _move(self, target: float) -> None:
        moved = self.now + SMOOTHING * (target - self.now)
        self.now = min(float(self.most), max(self.least, moved))
